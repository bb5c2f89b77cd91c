//! docs/troubleshooting.md quotes the program's output for each common mistake. These tests make
//! the mistakes and compare the output. `FRAMEPRESS_WRITE_DOCS=1` writes it into the page instead.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use redis::cmd;

use crate::support::{FramepressProcess, GROUP, INPUT, LONG, RedisServer, free_port, wait_until};

const OPENS: &str = "<!-- said: ";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md")
}

/// Runs the program in a temporary folder that holds `files`; returns its standard error.
fn said(arguments: &[&str], environment: &[(&str, &str)], files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?} is a mistake");
    String::from_utf8(output.stderr).unwrap()
}

/// The first line with `words` that a running engine logs, without its time.
fn logged(engine: &FramepressProcess, words: &str) -> String {
    let line = || {
        let said = engine.said();
        let line = said.lines().find(|line| line.contains(words))?;
        // The line may be incomplete.
        said.contains(&format!("{line}\n")).then(|| line.to_owned())
    };
    wait_until(&format!("a line with {words:?}"), LONG, || line().is_some());
    let line = line().unwrap();
    line.split_once('Z').unwrap().1.trim().to_owned()
}

fn run_on(url: &str) -> FramepressProcess {
    FramepressProcess::start(&["run"], &[("REDIS_QUEUE__URL", url), ("STATS__ADDR", "null")])
}

/// Output of every mistake, keyed by its name in the page.
fn mistakes() -> BTreeMap<&'static str, String> {
    let mut all = BTreeMap::new();
    let free = free_port();
    let away = format!("redis://127.0.0.1:{free}/0");
    let as_usual = |text: String, port: u16| text.replace(&format!(":{port}"), ":6379");

    all.insert("redis-away", as_usual(said(&["inspect", "--redis-url", &away], &[], &[]), free));
    let waiting = run_on(&away);
    all.insert("redis-away-run", as_usual(logged(&waiting, "WARN"), free));
    drop(waiting);

    let server = RedisServer::start();
    let (url, port) = (server.url(), server.port());
    let _: () = server.ask(cmd("SET").arg(INPUT).arg("text"));
    let run = |url: &str| {
        let environment = [("REDIS_QUEUE__URL", url), ("STATS__ADDR", "null")];
        as_usual(said(&["run"], &environment, &[]), port)
    };
    all.insert("not-a-stream", run(&url));
    let _: u64 = server.ask(cmd("DEL").arg(INPUT));

    let engine = run_on(&url);
    wait_until("it runs", LONG, || engine.said().contains("running: "));
    let _: u64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
    all.insert("group-gone", logged(&engine, "created again"));
    drop(engine);

    let _: u64 = server.ask(cmd("DEL").arg(INPUT));
    server.configure("maxmemory", "1");
    let engine = run_on(&url);
    all.insert("redis-full", as_usual(logged(&engine, "WARN"), port));
    drop(engine);
    server.configure("maxmemory", "0");

    server.configure("requirepass", "correct");
    all.insert("no-password", run(&url));
    all.insert("wrong-password", run(&url.replace("redis://", "redis://:guess@")));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let address = format!("127.0.0.1:{taken_port}");
    let text = said(&["run", "--stats-addr", &address], &[("REDIS_QUEUE__URL", &away)], &[]);
    all.insert("port-taken", text.replace(&taken_port.to_string(), "8080"));

    let no_programs = [("PATH", "/nonexistent"), ("FRAMEPRESS_REDIS_SERVER", "")];
    let arguments = ["ingest", "--camera", "cam1", "--source", "traffic.mp4"];
    all.insert("no-ffmpeg", said(&arguments, &no_programs, &[("traffic.mp4", "not empty")]));
    all.insert("no-redis-server", said(&["demo"], &no_programs, &[]));
    let arguments = ["ingest", "--camera", "cam1", "--source", "-"];
    all.insert("no-size", said(&arguments, &[], &[]));

    let file =
        "redis_queue:\n  compresion_quality: 70\n  batch_size: 0\nanalysis: {enabled: maybe}\n";
    let arguments = ["run", "--config", "framepress.yaml"];
    all.insert("wrong-key", said(&arguments, &[], &[("framepress.yaml", file)]));
    let file = "kafka:\n  bootstrap_servers: kafka:9092\n";
    all.insert("kafka", said(&arguments, &[], &[("framepress.yaml", file)]));
    all.insert("no-file", said(&arguments, &[], &[]));

    let free = free_port();
    let url = format!("http://127.0.0.1:{free}");
    let text = said(&["top", "--once", "--url", &url], &[], &[]);
    all.insert("no-engine", text.replace(&free.to_string(), "8080"));
    all
}

/// The page with its blocks filled in, and the names of those blocks.
fn filled(page: &str, mistakes: &BTreeMap<&'static str, String>) -> (String, Vec<String>) {
    let mut names = Vec::new();
    let mut parts = page.split(OPENS);
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n```\n").expect("a block follows the comment");
        let (block, rest) = rest.split_once("```\n").expect("the block ends");
        let (command, _) = block.split_once('\n').expect("a command first");
        assert!(command.starts_with("$ "), "{name}: {command}");
        let said =
            mistakes.get(name).unwrap_or_else(|| panic!("no run makes the mistake {name:?}"));
        text += &format!("{OPENS}{name} -->\n```\n{command}\n{}\n```\n{rest}", said.trim_end());
        names.push(name.to_owned());
    }
    (text, names)
}

#[test]
fn the_page_shows_every_mistake_exactly_as_the_program_does() {
    let mistakes = mistakes();
    let page_text = std::fs::read_to_string(page()).unwrap();
    let (text, names) = filled(&page_text, &mistakes);
    let missing: Vec<_> =
        mistakes.keys().filter(|name| !names.iter().any(|n| n == *name)).collect();
    assert!(missing.is_empty(), "not in the page: {missing:?}");
    if std::env::var_os("FRAMEPRESS_WRITE_DOCS").is_some() {
        std::fs::write(page(), &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(page()).unwrap(), text);
}
