//! The `dlq` command: dead letters are listed, requeued, and removed only with confirmation.

use std::io::Write;
use std::process::{Command, Stdio};

use framepress::internals::image::Format;
use redis::cmd;

use super::{complains, framepress, says};
use crate::support::{
    DEAD_LETTERS, Fields, FramepressProcess, INPUT, RedisServer, Sample, protobuf_of, skip,
};

/// An entry that cannot be decoded, with a non-text field.
fn broken() -> Fields {
    vec![
        ("data".into(), b"no frame at all".to_vec()),
        ("camera_id".into(), b"cam\x1b[2J".to_vec()),
        ("extra\n".into(), vec![0, 255, 10, 13, 0]),
    ]
}

/// A server with `count` dead letters of that entry, written by an engine.
fn with_dead_letters(count: usize) -> (RedisServer, Vec<String>) {
    let server = RedisServer::start();
    let mut engine = FramepressProcess::run(&server, &[]);
    server.add_all(std::iter::repeat_n(&broken(), count));
    server.wait_until_done();
    engine.kill();
    let ids = server.range(DEAD_LETTERS).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids.len(), count);
    (server, ids)
}

#[test]
fn an_empty_queue_is_good_news() {
    let server = RedisServer::start();
    let url = server.url();
    assert_eq!(says(0, &["dlq", "list", "--redis-url", &url]), "no dead letters\n");
    assert_eq!(says(0, &["dlq", "replay", "--redis-url", &url, "--all"]), "0 replayed\n");
    assert_eq!(says(0, &["dlq", "purge", "--redis-url", &url, "--all"]), "0 purged\n");
    let said = complains(1, &["dlq", "show", "--redis-url", &url, "1-1"]);
    assert!(said.contains("there is no dead letter 1-1"), "{said}");
    let said = complains(2, &["dlq", "show", "--redis-url", &url, "yesterday"]);
    assert!(said.contains("not an entry id; valid: an id such as 1700000000000-0"), "{said}");
}

#[test]
fn a_dead_letter_is_listed_explained_and_saved() {
    let (server, ids) = with_dead_letters(2);
    let url = server.url();
    complains(2, &["dlq", "list", "--redis-url", &url, "--count", "0"]);
    let list = says(0, &["dlq", "list", "--redis-url", &url]);
    assert!(list.starts_with("camera_frames:dlq: 2, the last 2:\n"), "{list}");
    assert!(list.contains(&ids[1]) && list.contains("undecodable"), "{list}");
    assert!(list.contains("cam?[2J"), "{list}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken");
    let path = file.to_str().unwrap();
    let shown = says(0, &["dlq", "show", "--redis-url", &url, &ids[0], "--save", path]);
    for part in
        ["reason         undecodable", "data           15 B", "damaged or not what it claims"]
    {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert!(shown.contains(&format!("saved data to {path}")), "{shown}");
    let failed = shown.lines().find(|line| line.contains("failed_at")).unwrap();
    assert!(failed.contains(" (20") && failed.ends_with("Z)"), "{failed}");
    assert_eq!(std::fs::read(&file).unwrap(), b"no frame at all");
    for text in [list, shown] {
        assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "{text:?}");
    }
}

#[test]
fn the_picture_of_a_dead_letter_is_saved_as_a_picture() {
    let server = RedisServer::start();
    let picture = Sample::colour(64, 48, 1).image(Format::Jpeg);
    let jpeg = picture.compressed_data.clone();
    let mut command = cmd("XADD");
    command.arg(DEAD_LETTERS).arg("*");
    for (name, value) in protobuf_of("frame", "cam", picture) {
        command.arg(name).arg(value);
    }
    let id: String = server.ask(command.arg("reason").arg("max_deliveries"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frame.jpg");
    let path = file.to_str().unwrap();
    let shown = says(0, &["dlq", "show", "--redis-url", &server.url(), &id, "--save", path]);
    assert!(shown.contains("never acknowledged") && shown.contains("saved the picture"), "{shown}");
    assert_eq!(std::fs::read(&file).unwrap(), jpeg);
}

#[test]
fn replaying_puts_back_every_field_and_nothing_else() {
    let (server, ids) = with_dead_letters(3);
    let url = server.url();
    let _: u64 = server.ask(cmd("DEL").arg(INPUT));
    assert_eq!(says(0, &["dlq", "replay", "--redis-url", &url, &ids[1]]), "1 replayed\n");
    let entries = server.range(INPUT);
    assert_eq!(entries.len(), 1);
    let expected: std::collections::BTreeMap<_, _> = broken().into_iter().collect();
    assert_eq!(entries[0].1, expected);
    let left: Vec<String> = server.range(DEAD_LETTERS).into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [ids[0].clone(), ids[2].clone()]);

    let again = complains(1, &["dlq", "replay", "--redis-url", &url, &ids[1]]);
    assert!(again.contains("there is no dead letter"), "{again}");
    assert_eq!(server.len(INPUT), 1, "not put back twice");
    assert_eq!(says(0, &["dlq", "replay", "--redis-url", &url, "--all"]), "2 replayed\n");
    assert_eq!((server.len(INPUT), server.len(DEAD_LETTERS)), (3, 0));
}

#[test]
fn a_dead_letter_that_cannot_be_put_back_stays() {
    let (server, ids) = with_dead_letters(1);
    let _: u64 = server.ask(cmd("DEL").arg(INPUT));
    let _: () = server.ask(cmd("SET").arg(INPUT).arg("not a stream"));
    complains(1, &["dlq", "replay", "--redis-url", &server.url(), &ids[0]]);
    assert_eq!(server.len(DEAD_LETTERS), 1);
}

#[test]
fn purging_without_anybody_to_ask_needs_a_clear_word() {
    let (server, ids) = with_dead_letters(2);
    let url = server.url();
    for which in [&*ids[0], "--all"] {
        let said = complains(2, &["dlq", "purge", "--redis-url", &url, which]);
        assert!(said.contains("add --yes"), "{said}");
    }
    assert_eq!(server.len(DEAD_LETTERS), 2, "untouched");
    assert_eq!(says(0, &["dlq", "purge", "--redis-url", &url, &ids[0], "--yes"]), "1 purged\n");
    assert_eq!(says(0, &["dlq", "purge", "--redis-url", &url, "--all", "--yes"]), "1 purged\n");
    assert_eq!((server.len(DEAD_LETTERS), server.len(INPUT)), (0, 2));
}

#[test]
fn purging_at_a_terminal_asks_and_takes_no_for_an_answer() {
    let (server, _) = with_dead_letters(1);
    let command = format!(
        "{} dlq purge --redis-url {} --all",
        env!("CARGO_BIN_EXE_framepress"),
        server.url()
    );
    for (answer, left) in [("\n", 1), ("n\n", 1), ("y\n", 0)] {
        let script = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut script) = script else {
            return skip("no `script` to have a terminal; on Debian: apt-get install bsdutils");
        };
        script.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = script.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("remove 1 dead letters for good? [y/N]"), "{said}");
        assert_eq!(server.len(DEAD_LETTERS), left, "{answer:?}: {said}");
    }
}

#[test]
fn what_is_no_terminal_gets_no_colours_and_no_bars() {
    let (server, _) = with_dead_letters(1);
    let url = server.url();
    let output = framepress(&["dlq", "replay", "--redis-url", &url, "--all"], &[]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
