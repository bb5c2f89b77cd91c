//! The embedding program with a real redis-server.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use framepress::config::ConfigError;
use framepress::proto::ProcessingStage;
use framepress::{Fault, Full, Stop, create_producer, create_stream_processor};
use framepress_embedding::{configure, run};
use tempfile::TempDir;

/// A redis-server on a Unix socket, for one test.
struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    fn start() -> Server {
        let folder = TempDir::new().unwrap();
        let program =
            std::env::var("FRAMEPRESS_REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
        let child = Command::new(program)
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed; on Debian: apt-get install redis-server");
        let server = Server { child, folder };
        for _ in 0..1000 {
            let client = redis::Client::open(server.url()).unwrap();
            if client.get_connection().is_ok() {
                return server;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server does not answer");
    }

    fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn check(ring_folder: Option<&Path>) {
    let server = Server::start();
    let (conservation, results) = run(&server.url(), 50, ring_folder).unwrap();
    assert_eq!((conservation.read, conservation.out, conservation.in_flight), (100, 100, 0));
    for camera in ["north", "south"] {
        let own: Vec<_> = results.iter().filter(|result| result.camera_id == camera).collect();
        let ids: Vec<_> = own.iter().map(|result| result.frame_id.clone()).collect();
        assert_eq!(ids, (0..50).map(|number| format!("{camera}-{number}")).collect::<Vec<_>>());
        let pictures = own.iter().map(|result| result.original_image.as_ref().unwrap());
        assert!(pictures.into_iter().all(|image| image.compressed_data.starts_with(&[0xff, 0xd8])));
        assert!(own.iter().all(|result| result.processing_stage == ProcessingStage::Output as i32));
    }
}

#[test]
fn frames_of_two_cameras_become_results_in_order() {
    check(None);
}

#[test]
fn pixels_in_a_ring_become_the_same_results() {
    let folder = TempDir::new().unwrap();
    check(Some(folder.path()));
}

#[test]
fn wrong_settings_and_an_absent_server_are_errors() {
    let wrong = framepress::config::Loader::new().flag("engine.workers", "many").load().err();
    let wrong: ConfigError = wrong.unwrap();
    assert!(wrong.to_string().contains("engine.workers"), "{wrong}");

    let mut config = configure("unix:///nowhere/redis.sock").unwrap();
    config.redis_queue.retry_on_failure = false;
    let absent = create_stream_processor(&config).err();
    assert!(matches!(absent, Some(Fault::Connection { .. })), "{absent:?}");
    let absent = create_producer(&config, Full::Block, None, &Stop::default()).err();
    assert!(matches!(absent, Some(Fault::Connection { .. })), "{absent:?}");

    let embedded = configure("embedded://").unwrap();
    let refused = create_producer(&embedded, Full::Block, None, &Stop::default()).err();
    assert!(matches!(refused, Some(Fault::Unusable(_))), "{refused:?}");

    config.engine.workers = framepress::config::Count::Fixed(0);
    let invalid = create_stream_processor(&config).err();
    assert!(matches!(invalid, Some(Fault::Unusable(_))), "{invalid:?}");
}
