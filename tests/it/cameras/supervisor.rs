//! All cameras of a configuration in one process.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::web::Server;
use super::{Camera, children_of, sent, wait_for_frames};
use crate::support::{FramepressProcess, INPUT, RedisServer, free_port, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// `ingest` with a configuration file that the test can change.
pub(super) struct Box {
    pub(super) ingest: FramepressProcess,
    file: PathBuf,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Box {
    pub(super) fn start(server: &RedisServer, cameras: &str) -> Box {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cameras.yaml");
        let port = free_port();
        fs::write(&file, text(server, port, cameras)).unwrap();
        let ingest = FramepressProcess::start(&["ingest", "--config", file.to_str().unwrap()], &[]);
        Box { ingest, file, port, _folder: folder }
    }

    fn change(&self, server: &RedisServer, cameras: &str) {
        fs::write(&self.file, text(server, self.port, cameras)).unwrap();
        self.ingest.signal(Signal::HUP);
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut answer = agent.get(url).call().ok()?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().read_to_vec().ok()?;
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn camera(&self, id: &str) -> Value {
        let text = self.get(&format!("/api/v1/cameras/{id}")).map(|(_, text)| text);
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null)
    }

    fn wait_for_state(&self, id: &str, state: &str) {
        wait_until(&format!("{id} {state}; {}", self.ingest.said()), SOON, || {
            self.camera(id)["state"] == state
        });
    }
}

fn text(server: &RedisServer, port: u16, cameras: &str) -> String {
    format!(
        "redis_queue: {{url: '{}'}}\nstats: {{addr: null}}\n\
         ingest:\n  stats: {{addr: '127.0.0.1:{port}'}}\n  \
         defaults: {{fps: 5, no_frame_ms: 3000, open_timeout_ms: 5000}}\ncameras:\n{cameras}",
        server.url()
    )
}

fn of(server: &RedisServer, camera: &str) -> usize {
    sent(server).iter().filter(|frame| frame.frame.camera_id == camera).count()
}

#[test]
fn every_camera_of_the_configuration_is_read_shown_and_counted() {
    let Some(one) = Camera::start(&[]) else { return };
    let Some(mut two) = Camera::start(&["--codec", "mjpeg"]) else { return };
    let server = RedisServer::start();
    let cameras = format!(
        "  - {{id: one, source: '{}'}}\n  - {{id: two, source: '{}'}}\n  \
         - {{id: three, source: 'rtsp://127.0.0.1:9/x'}}\n  \
         - {{id: four, source: 'rtsp://127.0.0.1:9/y', enabled: false}}\n  - {{id: five}}\n",
        one.url(),
        two.url()
    );
    let mut boxed = Box::start(&server, &cameras);
    for (id, state) in
        [("one", "live"), ("two", "live"), ("three", "backoff"), ("four", "disabled")]
    {
        boxed.wait_for_state(id, state);
    }
    wait_for_frames(&server, 20);
    assert!(of(&server, "one") > 2 && of(&server, "two") > 2);
    assert_eq!(boxed.camera("two")["codec"], "mjpeg");
    let error = boxed.camera("three")["last_error"].to_string();
    assert!(error.contains("refused"), "{error}");
    assert_eq!(boxed.get("/readyz").unwrap().0, 200);
    let (status, page) = boxed.get("/metrics").unwrap();
    assert_eq!(status, 200);
    for series in [
        "framepress_ingest_camera_state{camera=\"one\",state=\"live\"} 1",
        "framepress_ingest_camera_state{camera=\"four\",state=\"disabled\"} 1",
        "framepress_ingest_frames_total{camera=\"one\",outcome=\"sent\"} ",
        "framepress_ingest_frames_total{camera=\"one\",outcome=\"sampled_out\"} ",
        "framepress_ingest_frames_total{camera=\"one\",outcome=\"superseded\"} 0",
        "framepress_ingest_frames_total{camera=\"one\",outcome=\"decode_error\"} ",
        "framepress_ingest_restarts_total{camera=\"three\",reason=\"unreachable\"} ",
        "framepress_ingest_last_frame_timestamp_seconds{camera=\"two\"} ",
        "framepress_ingest_frame_age_seconds_bucket{le=\"0.1\"} ",
        "framepress_ingest_bytes_total{camera=\"one\"} ",
        "framepress_ingest_child_cpu_seconds_total{camera=\"one\"} ",
    ] {
        assert!(page.contains(series), "no {series} in {page}");
    }
    assert_eq!(boxed.get("/api/v1/cameras/one/latest.jpg").unwrap().0 / 100, 2);
    // The engine shows every configured camera, also one without frames.
    let port = free_port().to_string();
    let address = format!("127.0.0.1:{port}");
    let arguments = ["run", "--config", boxed.file.to_str().unwrap(), "--stats-addr", &address];
    let mut engine = FramepressProcess::start(&arguments, &[]);
    let mut shown = Value::Null;
    wait_until("the engine shows all cameras", SOON, || {
        let agent = ureq::Agent::new_with_defaults();
        let answer = agent.get(format!("http://{address}/api/v1/cameras")).call();
        let text = answer.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok());
        shown = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let cameras = shown["cameras"].as_array().cloned().unwrap_or_default();
        let state = |id: &str| {
            let camera = cameras.iter().find(|camera| camera["camera_id"] == id);
            camera.map_or(Value::Null, |camera| camera["ingest"]["state"].clone())
        };
        state("one") == "live" && state("three") == "backoff" && state("four") == "disabled"
    });
    engine.signal(Signal::TERM);
    engine.ends_with(0);
    // A camera that vanishes does not affect the others.
    two.vanish();
    boxed.wait_for_state("two", "backoff");
    let before = of(&server, "one");
    wait_until("more of one", SOON, || of(&server, "one") > before + 5);
    boxed.ingest.signal(Signal::TERM);
    boxed.ingest.ends_with(0);
    let left: i64 = server.ask(redis::cmd("EXISTS").arg(format!("{INPUT}:ingest")));
    assert_eq!(left, 0, "nothing is told any more");
}

#[test]
fn a_reload_adds_removes_and_restarts_only_what_has_changed() {
    let Some(camera) = Camera::start(&["--cameras", "4"]) else { return };
    let server = RedisServer::start();
    let line = |id: &str, more: &str| {
        format!("  - {{id: {id}, source: 'rtsp://127.0.0.1:{}/cam'{more}}}\n", camera.port)
    };
    let mut boxed = Box::start(&server, &[line("a", ""), line("b", ""), line("c", "")].concat());
    for id in ["a", "b", "c"] {
        boxed.wait_for_state(id, "live");
    }
    let before = children_of(boxed.ingest.pid());
    assert_eq!(before.len(), 3);
    boxed.change(&server, &[line("a", ""), line("b", ", fps: 2"), line("d", "")].concat());
    wait_until("the new camera", SOON, || boxed.camera("d")["state"] == "live");
    wait_until("b again", SOON, || boxed.camera("b")["state"] == "live");
    assert!(boxed.camera("c")["state"].is_null(), "c is gone");
    let after = children_of(boxed.ingest.pid());
    let kept = after.iter().filter(|(pid, _)| before.iter().any(|(it, _)| it == pid)).count();
    assert_eq!((after.len(), kept), (3, 1), "a was not touched: {before:?} {after:?}");
    let said = boxed.ingest.said();
    assert!(said.contains("1 cameras added, 1 removed, 1 begun again"), "{said}");
    // An invalid configuration changes nothing.
    boxed.change(&server, "  - {id: a, source: 'rtsp://x/y', ring: 1}\n");
    wait_until("it is refused", SOON, || boxed.ingest.said().contains("2 to 65536 slots"));
    assert_eq!(boxed.camera("a")["state"], "live");
    boxed.ingest.signal(Signal::TERM);
    boxed.ingest.ends_with(0);
    assert!(children_of(boxed.ingest.pid()).is_empty());
}

#[test]
fn each_camera_that_is_lost_is_named_in_the_log() {
    let server = RedisServer::start();
    let line = |id: &str| format!("  - {{id: {id}, source: 'rtsp://127.0.0.1:9/x'}}\n");
    let mut boxed = Box::start(&server, &["a", "b", "c"].map(line).concat());
    for id in ["a", "b", "c"] {
        let named = format!("camera=\"{id}\"");
        wait_until(&format!("{id} is named"), SOON, || {
            let said = boxed.ingest.said();
            said.lines().any(|line| line.contains(" again in ") && line.ends_with(&named))
        });
    }
    boxed.ingest.signal(Signal::TERM);
    boxed.ingest.ends_with(0);
}

#[test]
fn another_source_stands_in_after_three_failures() {
    let Some(camera) = Camera::start(&[]) else { return };
    let server = RedisServer::start();
    let cameras = format!(
        "  - {{id: a, source: 'rtsp://127.0.0.1:9/x', fallback: '{}', backoff_ms: [50, 100]}}\n",
        camera.url()
    );
    let mut boxed = Box::start(&server, &cameras);
    boxed.wait_for_state("a", "live");
    assert!(boxed.camera("a")["restarts"].as_u64() >= Some(3));
    boxed.ingest.signal(Signal::TERM);
    boxed.ingest.ends_with(0);
}

#[test]
fn hardware_that_is_not_there_is_counted_and_software_decodes() {
    let Some(camera) = Camera::start(&[]) else { return };
    let server = RedisServer::start();
    let cameras = format!("  - {{id: a, source: '{}', hwaccel: v4l2m2m}}\n", camera.url());
    let mut boxed = Box::start(&server, &cameras);
    boxed.wait_for_state("a", "live");
    assert_eq!(boxed.camera("a")["hwaccel_fallbacks"], 1, "{}", boxed.ingest.said());
    boxed.ingest.signal(Signal::TERM);
    boxed.ingest.ends_with(0);
}

#[test]
fn credentials_of_files_count_only_where_no_one_else_reads_them() {
    use std::os::unix::fs::PermissionsExt;
    let Some(camera) = Camera::start(&["--auth", "digest"]) else { return };
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("account");
    fs::write(&secret, "user:password\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let cameras = format!(
        "  - {{id: a, source: '{}', credentials_file: '{}', backoff_ms: [50, 500]}}\n",
        camera.url(),
        secret.display()
    );
    let mut boxed = Box::start(&server, &cameras);
    boxed.wait_for_state("a", "backoff");
    let error = boxed.camera("a")["last_error"].to_string();
    assert!(error.contains("chmod 600"), "{error}");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    boxed.wait_for_state("a", "live");
    boxed.ingest.signal(Signal::TERM);
    boxed.ingest.ends_with(0);
}

#[test]
fn check_opens_each_camera_once_and_says_what_would_be_sent() {
    let Some(camera) = Camera::start(&[]) else { return };
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cameras.yaml");
    let cameras = format!(
        "  - {{id: good, source: '{0}'}}\n  - {{id: gone, source: 'rtsp://a:hunter2@127.0.0.1:9/x'}}\n  \
         - {{id: ringed, source: '{0}', ring: 8}}\n",
        camera.url()
    );
    fs::write(&file, text(&server, 1, &cameras)).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(["check", "--json", "--for", "ingest", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("hunter2"), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let opened: Vec<_> = findings.iter().filter(|it| it["code"] == "cameras.open").collect();
    assert_eq!(opened.len(), 3, "{said}");
    let ringed = opened[2]["what"].as_str().unwrap();
    assert!(
        ringed.contains(" as yuv420p, ") && ringed.contains("frame ring of 900.00 KiB"),
        "{ringed}"
    );
    let good = opened[0]["what"].as_str().unwrap();
    for part in ["camera good: h264 320x240", "frames/s as jpeg", "ready ", "its clock"] {
        assert!(good.contains(part), "no {part} in {good}");
    }
    assert_eq!((&opened[0]["severity"], &opened[1]["severity"]), (&"ok".into(), &"error".into()));
    assert_eq!(server.len(INPUT), 0, "nothing was sent");
}

#[test]
fn a_right_that_is_lost_is_waited_for_and_said() {
    let server = RedisServer::start();
    let camera = Server::plain();
    let mut boxed = Box::start(&server, &format!("  - {{id: cam, source: '{}'}}\n", camera.url()));
    wait_for_frames(&server, 5);
    assert_eq!(boxed.get("/readyz").unwrap().0, 200);
    for (loses, finds) in [("-xadd", "+xadd"), ("resetkeys", "~*")] {
        let change = |rule: &str| -> redis::Value {
            server.ask(redis::cmd("ACL").arg("SETUSER").arg("default").arg(rule))
        };
        change(loses);
        wait_until("it says what is refused", SOON, || {
            let (status, why) = boxed.get("/readyz").unwrap();
            status == 503 && why.contains("refused XADD: NOPERM")
        });
        assert!(boxed.ingest.is_running(), "{}", boxed.ingest.said());
        change(finds);
        let before = sent(&server).len();
        wait_for_frames(&server, before + 5);
        wait_until("it is ready again", SOON, || boxed.get("/readyz").unwrap().0 == 200);
    }
    boxed.ingest.signal(Signal::TERM);
    boxed.ingest.ends_with(0);
}

#[test]
fn an_address_that_is_taken_ends_it_at_once() {
    let server = RedisServer::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cameras.yaml");
    let cameras = "  - {id: cam, source: 'rtsp://127.0.0.1:9/x'}\n";
    fs::write(&file, text(&server, address.port(), cameras)).unwrap();
    let mut ingest = FramepressProcess::start(&["ingest", "--config", file.to_str().unwrap()], &[]);
    assert!(ingest.ends_with(1).contains(&address.to_string()));
}
