//! `check` as a person or a script uses it, against servers in good and bad states.

use std::process::{Command, Output};

use redis::cmd;
use serde_json::Value;

use crate::support::{
    FramepressProcess, INPUT, LONG, RedisServer, RunningEngine, is_older_than_7, root, wait_until,
};

fn check(server: &RedisServer, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(["check", "--redis-url", &server.url()])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The report and the exit code, which must match the report.
fn report(server: &RedisServer) -> (Value, i32) {
    let output = check(server, &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let code = output.status.code().unwrap();
    assert_eq!(report["exit_code"], code, "{report:#}");
    (report, code)
}

/// Severity of the worst finding with a code; empty if there is none.
fn severity(report: &Value, code: &str) -> String {
    let findings = report["findings"].as_array().unwrap().iter();
    let of_code = findings.filter(|finding| finding["code"] == code);
    let severities: Vec<_> = of_code.map(|finding| finding["severity"].as_str().unwrap()).collect();
    let worst = ["error", "warning", "note", "ok"].into_iter().find(|one| severities.contains(one));
    worst.unwrap_or_default().to_owned()
}

/// The settings of deploy/redis/redis.conf that matter here.
const GOOD: [&str; 6] =
    ["--appendonly", "yes", "--maxmemory", "512mb", "--repl-backlog-size", "128mb"];

#[test]
fn a_good_server_has_no_warnings() {
    let server = RedisServer::with(&GOOD);
    let engine = RunningEngine::start(&server, &[]);
    server.add_frames("cam", 3);
    server.wait_for_outputs(3);
    server.wait_until_done();
    let (report, code) = report(&server);
    assert_eq!(code, 0);
    for finding in report["findings"].as_array().unwrap() {
        // The kernel settings of this machine are not the server's fault.
        let machine = finding["code"].as_str().unwrap().starts_with("machine.");
        assert!(machine || finding["severity"] != "warning", "{finding:#}");
        assert!(finding["severity"] != "error", "{finding:#}");
    }
    assert_eq!(severity(&report, "streams.group"), "ok");
    engine.stop();
}

#[test]
fn settings_that_cost_frames_are_warned_of() {
    let server = RedisServer::with(&GOOD);
    for (setting, value, code) in [
        ("maxmemory-policy", "allkeys-lru", "memory.policy"),
        ("maxmemory", "0", "memory.limit"),
        ("timeout", "30", "server.idle_timeout"),
        ("tcp-keepalive", "0", "server.keepalive"),
        ("appendonly", "no", "persistence.mode"),
    ] {
        let before: std::collections::HashMap<String, String> =
            server.ask(cmd("CONFIG").arg("GET").arg(setting));
        server.configure(setting, value);
        let (report, exit) = report(&server);
        assert_eq!((severity(&report, code).as_str(), exit), ("warning", 0), "{setting} {value}");
        server.configure(setting, &before[setting]);
    }
    let text = text(&check(&server, &[]));
    assert!(text.contains("0 errors"), "{text}");
    assert!(!text.contains('\x1b'), "no colour where nobody looks: {text}");
}

#[test]
fn settings_that_stop_the_engine_are_errors() {
    for (options, code) in [
        (["--client-output-buffer-limit", "normal 1mb 0 0"], "server.output_buffer"),
        (["--proto-max-bulk-len", "1mb"], "server.request_size"),
        (["--replicaof", "127.0.0.1 1"], "server.role"),
        (["--cluster-enabled", "yes"], "streams.slots"),
        (["--maxmemory", "100kb"], "memory.limit"),
    ] {
        let server = RedisServer::with(&options);
        let (report, exit) = report(&server);
        assert_eq!((severity(&report, code).as_str(), exit), ("error", 1), "{report:#}");
    }
}

#[test]
fn a_command_that_the_server_does_not_have_is_an_error_of_the_server() {
    for (renamed, command, purpose) in [
        ("SCRIPT", "SCRIPT LOAD", "loading the commit script"),
        ("TIME", "TIME", "the age of frames"),
        ("XCLAIM", "XCLAIM", "taking over the frames"),
    ] {
        let server = RedisServer::with(&["--rename-command", renamed, ""]);
        let (report, exit) = report(&server);
        assert_eq!(exit, 1, "{report:#}");
        let errors = report["findings"].as_array().unwrap().iter();
        let errors: Vec<_> = errors.filter(|finding| finding["severity"] == "error").collect();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        let said = |key: &str| errors[0][key].as_str().unwrap();
        assert_eq!(said("code"), "server.command");
        assert!(said("what").contains(command) && said("why").contains(purpose), "{errors:#?}");
        assert!(said("do").contains(&format!("rename-command of {renamed}")), "{errors:#?}");
    }
}

#[test]
fn a_server_without_select_is_told_from_an_account_without_the_right() {
    let server = RedisServer::with(&["--rename-command", "SELECT", ""]);
    let url = format!("redis://127.0.0.1:{}/1", server.port());
    let output = Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(["check", "--json", "--redis-url", &url])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(severity(&report, "server.command"), "error", "{report:#}");
    assert_eq!(severity(&report, "rights.account"), "", "{report:#}");
}

#[test]
fn deleting_frames_without_the_right_to_xdel_is_an_error() {
    let server = RedisServer::start();
    let _: () = server.ask(cmd("ACL").arg("SETUSER").arg("default").arg("-xdel"));
    let rights = |retention: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_framepress"))
            .args(["check", "--json", "--redis-url", &server.url()])
            .env("REDIS_QUEUE__RETENTION", retention)
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (severity(&report, "rights.account"), text(&output))
    };
    let (severity, said) = rights("delete");
    assert_eq!(severity, "error", "{said}");
    assert!(said.contains("XDEL") && said.contains("ACL SETUSER default +xdel"), "{said}");
    assert_eq!(rights("keep").0, "ok");
}

/// The server closes such a connection before it reads anything.
#[test]
fn a_server_that_is_full_says_so_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let server = RedisServer::with(&["--maxclients", "4", "--unixsocket", &socket]);
    let port = server.port();
    let held: Vec<_> = std::iter::from_fn(|| server.try_connect().ok()).collect();
    let urls = [
        format!("redis://127.0.0.1:{port}"),
        format!("redis+unix://{socket}"),
        // With a password the first command is AUTH.
        format!("redis://:s3cret@127.0.0.1:{port}"),
        format!("redis+unix://{socket}?pass=s3cret"),
    ];
    for url in &urls {
        for _ in 0..5 {
            let output = Command::new(env!("CARGO_BIN_EXE_framepress"))
                .args(["check", "--json", "--redis-url", url])
                .output()
                .unwrap();
            let said = text(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("ERR max number of clients reached"), "{url}: {said}");
            assert!(said.contains("maxclients") && !said.contains("rediss://"), "{url}: {said}");
        }
        // The engine waits until there is room.
        let environment = [("REDIS_QUEUE__URL", url.as_str()), ("STATS__ADDR", "null")];
        let mut engine = FramepressProcess::start(&["run"], &environment);
        wait_until("the server's words", LONG, || engine.said().contains("max number of clients"));
        assert!(engine.is_running(), "{}", engine.said());
        assert!(!engine.said().contains("rediss://"), "{}", engine.said());
    }
    drop(held);
}

#[test]
fn a_snapshot_that_failed_is_an_error_while_it_stops_writes() {
    let server = RedisServer::with(&["--save", "3600 1", "--dbfilename", "taken"]);
    server.block_file("taken");
    let save: redis::RedisResult<redis::Value> = cmd("SAVE").query(&mut server.connect());
    assert!(save.is_err(), "it cannot be saved: there is a folder of that name");
    let _: redis::RedisResult<redis::Value> = cmd("BGSAVE").query(&mut server.connect());
    wait_until("the failure is noticed", LONG, || {
        severity(&report(&server).0, "persistence.snapshot") == "error"
    });
}

#[test]
fn a_backlog_that_is_not_read_is_noted() {
    let server = RedisServer::with(&GOOD);
    server.create_group(crate::support::GROUP);
    server.add_frames("cam", 5);
    server.read_as("gone", 2);
    let (report, code) = report(&server);
    let of_group = |finding: &&Value| finding["code"] == "streams.group";
    let finding = report["findings"].as_array().unwrap().iter().find(of_group).unwrap().clone();
    let what = finding["what"].as_str().unwrap();
    let unread = if is_older_than_7() { "an unknown number" } else { "3" };
    assert!(what.contains(&format!("{unread} to be read, 2 in work")), "{finding}");
    assert_eq!(code, 0);
    assert!(severity(&report, "streams.key") == "ok" && what.contains(INPUT));
}

#[test]
fn the_json_form_is_as_documented() {
    let server = RedisServer::start();
    let (report, _) = report(&server);
    let keys: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "configuration_faults",
            "counts",
            "exit_code",
            "findings",
            "framepress",
            "redis",
            "schema"
        ]
    );
    assert_eq!(report["schema"], 1);
    assert_eq!(report["redis"], format!("127.0.0.1:{}", server.port()));
    let findings = report["findings"].as_array().unwrap();
    for finding in findings {
        let keys: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["code", "do", "severity", "what", "why"]);
    }
    let count = |name: &str| report["counts"][name].as_u64().unwrap();
    assert_eq!(
        count("ok") + count("note") + count("warning") + count("error"),
        findings.len() as u64
    );
}

#[test]
fn every_code_is_documented() {
    let page = std::fs::read_to_string(root().join("docs/check.md")).unwrap();
    let areas = [
        "configuration",
        "timing",
        "machine",
        "server",
        "memory",
        "persistence",
        "rights",
        "streams",
    ];
    let mut codes = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(root().join("src/cli/check")).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for quoted in source.split('"').skip(1).step_by(2) {
            let area = quoted.split_once('.').map_or("", |(area, _)| area);
            if areas.contains(&area) && !quoted.contains(' ') {
                codes.insert(quoted.to_owned());
            }
        }
    }
    assert!(codes.len() > 20, "{codes:?}");
    let missing: Vec<_> =
        codes.iter().filter(|code| !page.contains(&format!("| `{code}` |"))).collect();
    assert!(missing.is_empty(), "not in docs/check.md: {missing:?}");
}

#[test]
fn a_wrong_configuration_tells_all_its_faults_at_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(["check", "--json", "--redis-url", "redis://user:very-secret@host:bad/x"])
        .envs([("ENGINE__WORKERS", "none"), ("REDIS_QUEUE__BATCH_SIZE", "0")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let faults = report["configuration_faults"].as_array().unwrap();
    assert_eq!(faults.len(), 3, "{report:#}");
    assert_eq!((&report["exit_code"], &report["findings"]), (&2.into(), &Value::Array(vec![])));
    assert!(!text(&output).contains("very-secret"), "{}", text(&output));
}

#[test]
fn a_server_that_does_not_answer_or_let_us_in_is_an_error_without_the_password() {
    let server = RedisServer::start();
    let wrong = format!("redis://cam:very-secret@127.0.0.1:{}/0", server.port());
    let away = format!("redis://cam:very-secret@127.0.0.1:{}/0", crate::support::free_port());
    for url in [&wrong, &away] {
        let output = Command::new(env!("CARGO_BIN_EXE_framepress"))
            .args(["check", "--redis-url", url])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("error    server"), "{}", text(&output));
        assert!(!text(&output).contains("very-secret"), "{}", text(&output));
    }
}
