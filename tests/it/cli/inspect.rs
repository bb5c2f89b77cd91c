//! `inspect` handles any stream content.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use framepress::internals::wire::proto::{ImageData, ProcessedFrame};
use prost::Message;
use redis::cmd;
use rustix::process::Signal;

use super::{complains, framepress, says};
use crate::support::{FramepressProcess, LONG, OUTPUT, RedisServer, wait_until};

const HOSTILE: &str = "cam\u{1b}[2J\u{9b}31m<script>\n";

fn add(server: &RedisServer, field: &str, value: &[u8]) -> String {
    server.ask(cmd("XADD").arg(OUTPUT).arg("*").arg(field).arg(value))
}

fn frame(camera: &str) -> Vec<u8> {
    ProcessedFrame { camera_id: camera.into(), frame_id: HOSTILE.into(), ..Default::default() }
        .encode_to_vec()
}

#[test]
fn foreign_entries_are_named_and_nothing_of_them_steers_the_terminal() {
    let server = RedisServer::start();
    let url = server.url();
    let without = add(&server, "other", b"1");
    let garbage = add(&server, "data", b"\xff\xff\xff\xff");
    add(&server, "data", &frame(HOSTILE));
    let table = says(0, &["inspect", "--redis-url", &url]);
    assert!(table.contains(&format!("{without} no field data")), "{table}");
    assert!(table.contains(&format!("{garbage} not a ProcessedFrame")), "{table}");
    assert!(table.contains("cam?[2J"), "{table}");
    let steers = |c: char| c != '\n' && c.is_control();
    assert!(!table.contains(steers), "{table:?}");

    let json = says(0, &["inspect", "--redis-url", &url, "--json"]);
    assert!(!json.contains(steers), "{json:?}");
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["error"], "no field data");
    assert_eq!(lines[2]["camera_id"], HOSTILE);
}

/// Once with entries small enough to hold, once with entries that are read a second time.
#[test]
fn a_short_shard_and_a_long_one_are_merged_and_the_short_one_is_asked_no_more() {
    for picture_bytes in [10, 400_000] {
        let server = RedisServer::start();
        let picture = ImageData { compressed_data: vec![7; picture_bytes], ..Default::default() };
        let frame = ProcessedFrame { original_image: Some(picture), ..Default::default() };
        let frame = frame.encode_to_vec();
        let ids: Vec<String> = (1..=60).map(|millis| format!("{millis}-0")).collect();
        let mut connection = server.connect();
        for (place, id) in ids.iter().enumerate() {
            let shard = usize::from([20, 21, 40].contains(&place));
            let mut command = cmd("XADD");
            command.arg(format!("{OUTPUT}:{{{shard}}}")).arg(id).arg("data").arg(&frame[..]);
            command.exec(&mut connection).unwrap();
        }
        let url = server.url();
        for count in [100_000, 30] {
            let _: () = server.ask(cmd("CONFIG").arg("RESETSTAT"));
            let count_text = count.to_string();
            let arguments = ["inspect", "--redis-url", &url, "--json", "--count", &count_text];
            let output = framepress(&arguments, &[("REDIS_QUEUE__SHARDS", "2")]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let shown: Vec<String> = String::from_utf8_lossy(&output.stdout)
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                .map(|json| json["entry_id"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(shown, ids[ids.len().saturating_sub(count)..], "{count}, the oldest first");
            let statistics: String = server.ask(cmd("INFO").arg("commandstats"));
            let calls = |command: &str| {
                let start = format!("cmdstat_{command}:calls=");
                let line = statistics.lines().find_map(|line| line.strip_prefix(&start));
                line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
            };
            let asked: [u64; 2] = [calls("xrevrange"), calls("xread")];
            assert!((1..=16).contains(&asked[0]) && asked[1] <= 16, "in pages: {asked:?}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_in_silence() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    let mut pipeline = redis::pipe();
    let frame = frame("cam");
    for _ in 0..3000 {
        pipeline.cmd("XADD").arg(OUTPUT).arg("*").arg("data").arg(&frame[..]).ignore();
    }
    pipeline.exec(&mut connection).unwrap();
    let url = server.url();
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(["inspect", "--redis-url", &url, "--json", "--count", "3000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    // The rest, some megabytes, is never read: the pipe closes with the reader.
    BufReader::new(inspect.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with('{'), "{first}");
    let mut complaint = String::new();
    inspect.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    let status = inspect.wait().unwrap();
    assert!(status.success() && complaint.is_empty(), "{status}: {complaint}");
}

#[test]
fn a_stop_that_takes_long_says_how_to_leave_at_once() {
    let server = RedisServer::start();
    server.signal(Signal::STOP);
    let url = server.url();
    let mut inspect = FramepressProcess::start(&["inspect", "--redis-url", &url], &[]);
    wait_until("it heeds signals", LONG, || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", inspect.pid())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0
    });
    inspect.signal(Signal::INT);
    wait_until("it says so", LONG, || inspect.said().contains("a second signal ends it at once"));
    inspect.signal(Signal::INT);
    inspect.ends_with(130);
}

#[test]
fn of_no_frames_only_what_follows_is_shown() {
    let server = RedisServer::start();
    let url = server.url();
    add(&server, "data", &frame("before"));
    let said = complains(2, &["inspect", "--redis-url", &url, "--count", "0"]);
    assert!(said.contains("shows nothing without --follow"), "{said}");
    let arguments = ["inspect", "--redis-url", &url, "--count", "0", "--follow"];
    let mut inspect = FramepressProcess::start(&arguments, &[]);
    wait_until("the head is shown", LONG, || inspect.said().contains("camera"));
    add(&server, "data", &frame(""));
    wait_until("a frame is shown", LONG, || inspect.said().lines().count() >= 2);
    inspect.signal(Signal::TERM);
    let said = inspect.ends_with(0);
    assert!(!said.contains("before"), "{said}");
    // A camera without a name still fills its column.
    let row = said.lines().nth(1).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some("-"), "{said}");
}

#[test]
fn it_follows_the_stream_until_it_is_stopped() {
    let server = RedisServer::start();
    let url = server.url();
    let mut inspect =
        FramepressProcess::start(&["inspect", "--redis-url", &url, "--follow", "--json"], &[]);
    for camera in ["first", "second"] {
        add(&server, "data", &frame(camera));
        wait_until("it is shown", LONG, || inspect.said().contains(camera));
    }
    inspect.signal(Signal::TERM);
    inspect.ends_with(0);
}
