//! Commands that look at many entries hold only some of them in memory, as entries hold whole
//! frames.

use std::process::{Command, Stdio};

use framepress::internals::wire::proto::{ImageData, ProcessedFrame};
use prost::Message;
use redis::cmd;

use crate::support::{DEAD_LETTERS, INPUT, OUTPUT, RedisServer, status_of};

/// Entries of 1 MiB each, between small ones.
const LARGE: usize = 240;
const SMALL: usize = 400;
const LARGE_BYTES: usize = 1 << 20;

/// Highest peak memory of a command, in bytes; far less than the entries together.
const PEAK_MAX: u64 = 96 << 20;

/// Runs the program to its end; returns its output and its peak memory.
#[track_caller]
fn peak_of(arguments: &[&str]) -> (String, u64) {
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(said.reopen().unwrap())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = loop {
        // VmHWM is a high-water mark, so only growth after the last read is missed.
        peak = peak.max(status_of(child.id(), "VmHWM").unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    let said = std::fs::read_to_string(said.path()).unwrap();
    assert!(status.success(), "{arguments:?}: {status}: {said}");
    assert!(peak > 0, "its memory was never seen");
    println!("{arguments:?}: {} MiB at most", peak >> 20);
    (said, peak)
}

/// A server with large and small entries in a stream, mixed irregularly.
fn with_entries(stream: &str, beside: &[(&str, &str)]) -> RedisServer {
    let server = RedisServer::start();
    let data = |bytes| {
        let picture = ImageData { compressed_data: vec![7; bytes], ..Default::default() };
        let frame = ProcessedFrame { original_image: Some(picture), ..Default::default() };
        frame.encode_to_vec()
    };
    let (large, small) = (data(LARGE_BYTES), data(10));
    let mut connection = server.connect();
    let mut add = |data: &[u8], count: usize| {
        for _ in 0..count {
            let mut command = cmd("XADD");
            command.arg(stream).arg("*").arg("data").arg(data).arg("camera_id").arg("cam");
            command.arg(beside).exec(&mut connection).unwrap();
        }
    };
    add(&large, LARGE / 2);
    add(&small, SMALL);
    add(&large, LARGE / 2);
    server
}

#[test]
fn inspecting_many_large_frames_needs_memory_for_some() {
    let server = with_entries(OUTPUT, &[]);
    let url = server.url();
    let ask = ["inspect", "--redis-url", &url, "--count", "100000", "--json"];
    let (said, peak) = peak_of(&ask);
    let ids: Vec<String> = said
        .lines()
        .map(|line| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            json["entry_id"].as_str().unwrap().to_owned()
        })
        .collect();
    let expected: Vec<String> = server.range(OUTPUT).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, expected, "each once, the oldest first");
    assert!(peak < PEAK_MAX, "{peak} bytes");

    // Fewer than the stream holds, and more than the command holds at once.
    let count = LARGE / 2 + 5;
    let (said, _) = peak_of(&["inspect", "--redis-url", &url, "--count", &count.to_string()]);
    let shown: Vec<&str> =
        said.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(shown, expected[expected.len() - count..]);
}

#[test]
fn listing_replaying_and_purging_many_large_dead_letters_needs_memory_for_some() {
    let beside = [
        ("original_id", "1-1"),
        ("queue", INPUT),
        ("reason", "undecodable"),
        ("detail", "no frame"),
        ("stage", "decode"),
        ("deliveries", "1"),
        ("failed_at", "1"),
    ];
    let server = with_entries(DEAD_LETTERS, &beside);
    let url = server.url();
    let all = LARGE + SMALL;
    let ids: Vec<String> = server.range(DEAD_LETTERS).into_iter().map(|(id, _)| id).collect();

    let (said, peak) = peak_of(&["dlq", "list", "--redis-url", &url, "--count", "100000"]);
    assert!(said.starts_with(&format!("{DEAD_LETTERS}: {all}, the last {all}:\n")), "{said}");
    let listed: Vec<&str> =
        said.lines().skip(1).take(all).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(listed, ids, "each once, the oldest first");
    assert!(peak < PEAK_MAX, "{peak} bytes");

    let (said, peak) = peak_of(&["dlq", "replay", "--redis-url", &url, "--all"]);
    assert_eq!(said, format!("{all} replayed\n"));
    assert!(peak < PEAK_MAX, "{peak} bytes");
    assert_eq!((server.len(INPUT), server.len(DEAD_LETTERS)), (all, 0));
    drop(server);

    let server = with_entries(DEAD_LETTERS, &beside);
    let (said, peak) = peak_of(&["dlq", "purge", "--redis-url", &server.url(), "--all", "--yes"]);
    assert_eq!(said, format!("{all} purged\n"));
    assert!(peak < PEAK_MAX, "{peak} bytes");
    assert_eq!(server.len(DEAD_LETTERS), 0);
}
