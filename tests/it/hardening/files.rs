//! Files of the program in world-writable folders and on full disks.

use std::fs;
use std::os::unix::fs::symlink;

use redis::cmd;

use super::{limited, run, said};
use crate::support::{
    FramepressProcess, LONG, OUTPUT, RedisServer, free_port, protobuf, wait_until,
};

#[test]
fn a_picture_is_never_saved_through_a_link() {
    let server = RedisServer::start();
    let mut engine = FramepressProcess::run(&server, &[]);
    server.add(&protobuf("frame", "cam"));
    server.wait_for_outputs(1);
    engine.kill();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let entry = server.range(OUTPUT)[0].0.clone();
    fs::write(at("precious"), "precious").unwrap();
    let expected = at(&format!("cam-{entry}.jpg"));
    symlink(at("precious"), &expected).unwrap();
    symlink(at("nowhere"), at(&format!("cam-{entry}-1.jpg"))).unwrap();
    let url = server.url();
    let save = folder.path().to_str().unwrap();
    let arguments = ["inspect", "--redis-url", &url, "--save", save];
    for _ in 0..2 {
        let output = run(&arguments, &[]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(&format!("cam-{entry}-2.jpg")), "{}", said(&output));
    }
    assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
    assert!(expected.is_symlink() && !at("nowhere").exists());
    assert!(fs::read(at(&format!("cam-{entry}-2.jpg"))).unwrap().starts_with(&[0xff, 0xd8]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "the second run found its file");

    let id = server.add(&vec![("data".to_owned(), b"no frame".to_vec())]);
    let mut engine = FramepressProcess::run(&server, &[]);
    wait_until("it is a dead letter", LONG, || !server.dead_letters().is_empty());
    engine.kill();
    let id = server.range(&format!("{}:dlq", crate::support::INPUT)).pop().map_or(id, |it| it.0);
    let link = at("letter");
    symlink(at("precious"), &link).unwrap();
    let output =
        run(&["dlq", "show", &id, "--redis-url", &url, "--save", link.to_str().unwrap()], &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
    assert_eq!(fs::read(&link).unwrap(), b"no frame");
}

#[test]
fn a_report_is_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let report = at("report.json");
    fs::write(&report, "of before").unwrap();
    fs::write(at("precious"), "precious").unwrap();
    let server = RedisServer::start();
    let url = server.url();
    let bench = ["bench", "--redis-url", &url, "--frames", "3", "--size", "64x48", "--report"];
    fn with<'a>(bench: &[&'a str], path: &'a str) -> Vec<&'a str> {
        [bench, &[path]].concat()
    }

    // No file may be written: the old report stays, and the process is not killed.
    let mut command = limited("ulimit -f 0", &with(&bench, report.to_str().unwrap()), &[]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{:?}: {}", output.status, said(&output));
    assert!(said(&output).contains("cannot write"), "{}", said(&output));
    assert_eq!(fs::read(&report).unwrap(), b"of before");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no half file is left");

    symlink(at("precious"), at("link")).unwrap();
    for path in [&report, &at("link")] {
        let output = run(&with(&bench, path.to_str().unwrap()), &[]);
        assert!(output.status.success(), "{}", said(&output));
        let text = fs::read_to_string(path).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        assert!(!path.is_symlink());
    }
    assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
    let output = run(&with(&bench, "/dev/stdout"), &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("\"frames_out\": 3"), "{}", said(&output));
}

#[test]
fn output_that_cannot_be_written_is_a_failure_of_every_command() {
    let server = RedisServer::start();
    let url = server.url();
    let address = format!("127.0.0.1:{}", free_port());
    let _engine = FramepressProcess::run(&server, &[("STATS__ADDR", &address)]);
    server.add(&protobuf("frame", "cam"));
    server.add(&vec![("data".to_owned(), b"no frame".to_vec())]);
    server.wait_for_outputs(1);
    wait_until("there is a dead letter", LONG, || !server.dead_letters().is_empty());
    let letter = server.range(&format!("{}:dlq", crate::support::INPUT)).pop().unwrap().0;
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.yaml");
    fs::write(&old, "kafka: {bootstrap_servers: 'k:9092'}\n").unwrap();
    let old = old.to_str().unwrap();
    let redis = ["--redis-url", &url];
    let with = |arguments: &[&'static str]| [arguments, &redis[..]].concat();
    let cases: Vec<Vec<&str>> = vec![
        vec!["--help"],
        vec!["--version"],
        vec!["help", "run"],
        vec!["run", "--help"],
        vec!["completions", "bash"],
        vec!["man"],
        vec!["migrate-config", old],
        vec!["top", "--once", "--url", &address],
        with(&["check"]),
        with(&["check", "--show-config"]),
        with(&["check", "--show-acl"]),
        with(&["check", "--json"]),
        with(&["inspect"]),
        with(&["inspect", "--json"]),
        with(&["dlq", "list"]),
        [&["dlq", "show", &letter][..], &redis].concat(),
        with(&["dlq", "purge", "--all", "--yes"]),
        with(&[
            "ingest",
            "--camera",
            "a",
            "--source",
            "synthetic",
            "--size",
            "64x48",
            "--limit",
            "1",
        ]),
        vec!["bench", "--frames", "3", "--size", "64x48"],
        vec!["demo", "--seconds", "1", "--cameras", "1", "--size", "64x48"],
    ];
    for arguments in cases {
        let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = limited(":", &arguments, &[]);
        let output = command.stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("cannot write to standard output"), "{arguments:?}");
        // A closed pipe is not a failure.
        let mut command = limited("exec \"$0\" \"$@\" | head -c 1", &arguments, &[]);
        let output = command.output().unwrap();
        assert!(!said(&output).contains("panicked"), "{arguments:?}: {}", said(&output));
    }
    let _: redis::Value = server.ask(&cmd("PING"));
}
