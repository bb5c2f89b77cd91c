//! A real redis-server that can be killed, stopped and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use framepress::internals::redis::Embedded;
use framepress::internals::wire::proto::ProcessedFrame;
use prost::Message;
use redis::streams::{StreamPendingReply, StreamRangeReply};
use redis::{Connection, FromRedisValue, cmd};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{GROUP, INPUT, LONG, OUTPUT, frame, picture, wait_until};
use framepress::internals::image::Format;
use framepress::internals::wire::proto::ImageData;

/// A server on a free loopback port with a temporary folder. Dropping the value ends both.
pub struct Server {
    child: Child,
    port: u16,
    durable: bool,
    folder: TempDir,
    small: ImageData,
    added: usize,
}

/// One entry of the output stream.
pub struct Output {
    pub entry: String,
    pub source_id: String,
    pub frame_id: String,
}

impl Server {
    /// A server that keeps nothing on disk.
    pub fn start() -> Server {
        Server::with(false)
    }

    /// A server that keeps every write on disk, and so survives [`Server::kill`].
    pub fn durable() -> Server {
        Server::with(true)
    }

    fn with(durable: bool) -> Server {
        // Another process may take the port between the look-up and the server's start.
        for _ in 0..10 {
            let folder = tempfile::Builder::new().prefix("framepress-fault-").tempdir().unwrap();
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let child = spawn(port, durable, &folder);
            let small = picture(Format::Jpeg, 64, 48);
            let mut server = Server { child, port, durable, folder, small, added: 0 };
            if server.comes_up() {
                return server;
            }
        }
        panic!("redis-server does not start; on Debian: apt-get install redis-server");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Kills the server, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts the server again, on the same port and with the same folder.
    pub fn restart(&mut self) {
        assert!(self.durable, "a server that kept nothing has nothing to come back with");
        self.child = spawn(self.port, self.durable, &self.folder);
        assert!(self.comes_up(), "redis-server starts again on its port");
    }

    /// With `STOP` the server neither answers nor closes connections; with `CONT` it continues.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(id, signal).unwrap();
    }

    fn comes_up(&mut self) -> bool {
        for _ in 0..LONG.as_millis() / 10 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return false;
            }
            if let Ok(mut connection) = self.try_connect() {
                // While the server loads its data it answers with an error. The answer may also
                // come from another test's server that took the port first.
                let loaded = cmd("PING").query::<String>(&mut connection);
                if loaded.is_ok() && process_id(&mut connection) == Some(self.child.id()) {
                    return true;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn try_connect(&self) -> redis::RedisResult<Connection> {
        let client = redis::Client::open(self.url())?;
        let connection = client.get_connection_with_timeout(LONG)?;
        connection.set_read_timeout(Some(LONG))?;
        Ok(connection)
    }

    pub fn connect(&self) -> Connection {
        self.try_connect().expect("the server of this test answers")
    }

    /// Runs one command on a new connection.
    pub fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query(&mut self.connect()).expect("the server of this test does as it is told")
    }
}

/// Frames in and results out.
impl Server {
    /// Adds small frames of three cameras.
    pub fn add(&mut self, count: usize) {
        let small = self.small.clone();
        self.add_pictures(count, &small);
    }

    /// Adds frames of three cameras, all with the same picture.
    pub fn add_pictures(&mut self, count: usize, image: &ImageData) {
        let mut connection = self.connect();
        for _ in 0..count {
            let camera = format!("camera-{}", self.added % 3);
            let data = frame(&format!("frame-{}", self.added), &camera, image);
            let mut command = cmd("XADD");
            let _: String = command
                .arg(INPUT)
                .arg("*")
                .arg("data")
                .arg(data)
                .query(&mut connection)
                .expect("the server of this test takes frames");
            self.added += 1;
        }
    }

    /// Deletes everything, and resets the count of added frames.
    pub fn clear(&mut self) {
        let _: () = self.ask(&cmd("FLUSHALL"));
        self.added = 0;
    }

    pub fn outputs(&self) -> Vec<Output> {
        let of = |(entry, fields): (String, BTreeMap<String, Vec<u8>>)| {
            let frame = ProcessedFrame::decode(&fields.get("data")?[..]).unwrap();
            let source_id = String::from_utf8(fields["source_id"].clone()).unwrap();
            Some(Output { entry, source_id, frame_id: frame.frame_id })
        };
        self.range(OUTPUT).into_iter().filter_map(of).collect()
    }

    /// How many frames were added.
    pub fn added(&self) -> usize {
        self.added
    }

    /// The id of the last frame added.
    pub fn last_added(&self) -> String {
        format!("frame-{}", self.added - 1)
    }

    /// The frame ids of the newest results.
    pub fn latest_frame_ids(&self, count: usize) -> Vec<String> {
        let mut command = cmd("XREVRANGE");
        let command = command.arg(OUTPUT).arg("+").arg("-").arg("COUNT").arg(count);
        let reply: StreamRangeReply = self.ask(command);
        reply.ids.iter().filter_map(|entry| entry.get("frame_id")).collect()
    }

    pub fn output_length(&self) -> usize {
        self.ask(cmd("XLEN").arg(OUTPUT))
    }

    /// Number of entries in the group's pending entries list.
    pub fn pending(&self) -> usize {
        match self.ask(cmd("XPENDING").arg(INPUT).arg(GROUP)) {
            StreamPendingReply::Data(data) => data.count,
            _ => 0,
        }
    }

    /// The same for one consumer.
    pub fn pending_of(&self, consumer: &str) -> usize {
        self.pending_ids(Some(consumer)).len()
    }

    fn pending_ids(&self, consumer: Option<&str>) -> BTreeSet<String> {
        let mut command = cmd("XPENDING");
        command.arg(INPUT).arg(GROUP).arg("-").arg("+").arg(100_000).arg(consumer);
        let rows: Vec<(String, String, u64, u64)> = self.ask(&command);
        rows.into_iter().map(|row| row.0).collect()
    }

    /// The last entry delivered to any consumer, as a comparable pair.
    fn last_delivered(&self) -> (u64, u64) {
        let groups: redis::streams::StreamInfoGroupsReply =
            self.ask(cmd("XINFO").arg("GROUPS").arg(INPUT));
        let ours = groups.groups.into_iter().find(|group| group.name == GROUP);
        ours.map_or((0, 0), |group| parts(&group.last_delivered_id))
    }

    fn range(&self, stream: &str) -> Vec<(String, BTreeMap<String, Vec<u8>>)> {
        let reply: StreamRangeReply = self.ask(cmd("XRANGE").arg(stream).arg("-").arg("+"));
        let bytes = |value: &redis::Value| Vec::<u8>::from_redis_value_ref(value).unwrap();
        let fields = |map: std::collections::HashMap<String, redis::Value>| {
            map.iter().map(|(name, value)| (name.clone(), bytes(value))).collect()
        };
        reply.ids.into_iter().map(|entry| (entry.id, fields(entry.map))).collect()
    }

    fn input_ids(&self) -> Vec<String> {
        self.range(INPUT).into_iter().map(|(id, _)| id).collect()
    }

    /// Whether every frame added so far has a result and nothing is pending.
    pub fn is_done(&self) -> bool {
        self.output_length() >= self.added && self.pending() == 0
    }

    #[track_caller]
    pub fn wait_until_done(&self, limit: Duration) -> Duration {
        let what = format!("{} results and nothing pending", self.added);
        wait_until(&what, limit, || self.is_done())
    }

    /// Every frame added has exactly one result.
    #[track_caller]
    pub fn assert_every_frame_once(&self) {
        assert_once(&self.outputs(), &self.input_ids(), self.added);
        assert_eq!(self.pending(), 0, "nothing is left pending");
    }

    /// Holds after any crash: no frame ever has two results, and each delivered frame is pending or
    /// has a result.
    #[track_caller]
    pub fn assert_nothing_acknowledged_without_result(&self) {
        // The server executes what an engine has sent even after the engine's end.
        wait_until("the engine's connections are closed", LONG, || {
            !self.ask::<String>(cmd("CLIENT").arg("LIST")).contains("name=framepress")
        });
        let mut results = BTreeSet::new();
        for output in self.outputs() {
            assert!(results.insert(output.source_id.clone()), "{} twice", output.source_id);
        }
        let pending = self.pending_ids(None);
        let last = self.last_delivered();
        for id in self.input_ids() {
            let open = parts(&id) > last || pending.contains(&id);
            assert!(open != results.contains(&id), "{id}: open {open}, with or without result");
        }
    }
}

/// Each of `count` entries has exactly one result, and each frame id occurs once.
#[track_caller]
pub fn assert_once(outputs: &[Output], entries: &[String], count: usize) {
    let mut by_source: BTreeMap<&str, usize> = BTreeMap::new();
    for output in outputs {
        *by_source.entry(&output.source_id).or_default() += 1;
    }
    let twice: Vec<_> = by_source.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "stored more than once: {twice:?}");
    let lost: Vec<_> = entries.iter().filter(|id| !by_source.contains_key(&***id)).collect();
    assert!(lost.is_empty(), "{} of {count} without result: {lost:?}", lost.len());
    let frames: BTreeSet<&str> = outputs.iter().map(|output| &*output.frame_id).collect();
    assert_eq!((frames.len(), outputs.len()), (count, count), "as many results as frames");
}

fn parts(id: &str) -> (u64, u64) {
    let (millis, sequence) = id.split_once('-').unwrap();
    (millis.parse().unwrap(), sequence.parse().unwrap())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill(); // also kills a stopped process
    }
}

/// The process id of the server at the other end.
fn process_id(connection: &mut Connection) -> Option<u32> {
    let info: redis::InfoDict = cmd("INFO").arg("server").query(connection).ok()?;
    info.get("process_id")
}

fn spawn(port: u16, durable: bool, folder: &TempDir) -> Child {
    let durability: &[&str] =
        if durable { &["--appendonly", "yes", "--appendfsync", "always"] } else { &[] };
    Command::new(Embedded::program())
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
        .args(durability)
        .args(["--daemonize", "no", "--loglevel", "warning", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is needed by these tests; on Debian: apt-get install redis-server")
}
