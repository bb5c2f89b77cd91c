//! The least rights: documented, sufficient, and reported one by one if missing.

use std::process::{Command, Output};

use framepress::internals::redis::check::rights::{Account, Lack, Right, Usage, When};
use framepress::internals::redis::{Address, Control, Greeting, Streams};
use redis::{Value, cmd};

use crate::support::{
    DEAD_LETTERS, GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, data, root, wait_until,
};

const PASSWORD: &str = "correct-horse";

fn framepress(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn usage(account: Account, conditions: &[When]) -> Usage {
    Usage {
        account,
        streams: vec![Streams::new(INPUT, OUTPUT)],
        group: GROUP.into(),
        database: 0,
        conditions: conditions.to_vec(),
    }
}

/// Creates an account with exactly these rules.
fn grant(server: &RedisServer, name: &str, rules: &[String]) {
    let mut command = cmd("ACL");
    command.arg("SETUSER").arg(name).arg("reset").arg("on").arg(format!(">{PASSWORD}"));
    let greeting = greeting(server);
    let rules: Vec<String> = rules.iter().map(|rule| greeting.rule(rule)).collect();
    let _: Value = server.ask(command.arg("resetchannels").arg(rules));
}

fn greeting(server: &RedisServer) -> Greeting {
    Greeting::ask(&mut Control::new(Address::parse(&server.url()).unwrap(), LONG)).unwrap()
}

fn url(server: &RedisServer, name: &str, database: u32) -> String {
    format!("redis://{name}:{PASSWORD}@127.0.0.1:{}/{database}", server.port())
}

/// Commands and keys refused to accounts so far, without setting the client name, which is
/// optional.
fn refused(server: &RedisServer) -> Vec<String> {
    let log: Vec<std::collections::HashMap<String, Value>> = server.ask(cmd("ACL").arg("LOG"));
    let object = |entry: &std::collections::HashMap<String, Value>| {
        redis::from_redis_value_ref::<String>(&entry["object"]).unwrap()
    };
    // The engine tries XACKDEL once and then does without it.
    let counts = |object: &String| {
        !object.starts_with("client|set") && object != "client" && object != "xackdel"
    };
    log.iter().map(object).filter(counts).collect()
}

/// The tables and lines of docs/redis-acl.md.
fn documented() -> String {
    let needed = |right: &Right| match right.when {
        When::Always => "always",
        When::Database => "a database other than 0",
        When::Delete => "`retention: delete`",
        When::TrimAcked => "`retention: trim_acked`",
        When::WaitReplicas => "`wait_replicas`",
        When::Exclusive => "`assignment: exclusive`",
        When::LosslessRing => "`ring_reuse: lossless`",
        When::Cameras => "cameras",
        When::Sentinel => "Sentinel",
        When::Cluster => "Cluster",
    };
    let mut text = String::new();
    for account in Account::ALL {
        let line = usage(account, &[]).setuser(account.subcommand());
        text.push_str(&format!("\n## `framepress {}`\n\n", account.subcommand()));
        text.push_str(&format!(
            "```\n{line}\n```\n\n| right | needed | for |\n| --- | --- | --- |\n"
        ));
        for right in account.rights() {
            let rule = right.rule.replace('|', "\\|");
            text.push_str(&format!("| `+{rule}` | {} | {} |\n", needed(right), right.purpose));
        }
    }
    text
}

#[test]
fn the_documentation_is_that_of_the_table() {
    let page = std::fs::read_to_string(root().join("docs/redis-acl.md")).unwrap();
    let wanted = documented();
    assert!(page.contains(&wanted), "docs/redis-acl.md should contain:\n{wanted}");
    let shown = framepress(&["check", "--show-acl"], &[]);
    assert!(shown.status.success(), "{}", text(&shown));
    for line in text(&shown).lines() {
        assert!(page.contains(line), "{line}");
    }
    assert_eq!(text(&shown).lines().count(), Account::ALL.len());
}

/// Frames in, results out, a dead letter, frames of a dead engine, frames of an earlier run, a
/// destroyed group, and a second start.
#[test]
fn an_engine_does_all_its_work_under_exactly_its_rights() {
    for delivery in ["exactly_once", "at_least_once"] {
        for (retention, when_retention) in
            [("keep", None), ("delete", Some(When::Delete)), ("trim_acked", Some(When::TrimAcked))]
        {
            let conditions: Vec<When> = when_retention.into_iter().collect();
            let server = RedisServer::start();
            grant(&server, "engine", &usage(Account::Engine, &conditions).rules());
            let url = url(&server, "engine", 0);
            let flags = [
                ("redis_queue.url", &*url),
                ("redis_queue.delivery", delivery),
                ("redis_queue.retention", retention),
                ("redis_queue.claim_idle_ms", "1000"),
            ];
            server.create_group(GROUP);
            let mut ids = server.add_frames("cam", 9);
            server.read_as("gone", 3);
            server.read_as("engine-0", 3);
            server.add(&data("{no frame"));

            let engine = RunningEngine::start(&server, &flags);
            wait_until("a dead letter", LONG, || server.len(DEAD_LETTERS) == 1);
            server.wait_for_outputs(9);
            server.wait_until_done();
            let _: Value = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
            ids.extend(server.add_frames("after", 5));
            server.wait_for_outputs(14);
            engine.stop();

            let engine = RunningEngine::start(&server, &flags);
            ids.extend(server.add_frames("again", 5));
            server.wait_for_outputs(19);
            engine.stop();
            let results: Vec<_> = server.outputs().iter().map(|one| one.source_id()).collect();
            let lost: Vec<_> = ids.iter().filter(|id| !results.contains(id)).collect();
            assert!(lost.is_empty(), "{delivery}, {retention}: {lost:?}");
            assert_eq!(refused(&server), [""; 0], "{delivery}, {retention}");
        }
    }
}

#[test]
fn the_other_subcommands_work_under_exactly_their_rights() {
    let server = RedisServer::start();
    for account in [Account::Producer, Account::Inspect, Account::DeadLetters] {
        grant(&server, account.subcommand(), &usage(account, &[]).rules());
    }
    let run = |name: &str, arguments: &[&str]| {
        let output = framepress(arguments, &[("REDIS_QUEUE__URL", &url(&server, name, 0))]);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    };
    let source = ["--camera", "cam", "--source", "synthetic", "--size", "64x48", "--limit", "3"];
    run("ingest", &[&["ingest"], &source[..]].concat());
    server.add(&data("{no frame"));
    server.add(&data("{no frame either"));
    let engine = RunningEngine::start(&server, &[]);
    server.wait_for_outputs(3);
    wait_until("dead letters", LONG, || server.len(DEAD_LETTERS) == 2);
    engine.stop();
    assert_eq!(run("inspect", &["inspect", "--json"]).lines().count(), 3);
    assert!(run("dlq", &["dlq", "list"]).contains("camera_frames:dlq: 2,"));
    let id = server.range(DEAD_LETTERS)[0].0.clone();
    assert!(run("dlq", &["dlq", "show", &id]).contains("undecodable"));
    assert!(run("dlq", &["dlq", "replay", &id]).contains("1 replayed"));
    assert!(run("dlq", &["dlq", "purge", "--all", "--yes"]).contains("1 purged"));
    // Only an engine needs its connection id; a producer asks for it without success.
    let refused: Vec<_> = refused(&server).into_iter().filter(|one| one != "client|id").collect();
    assert_eq!(refused, [""; 0]);
}

/// Removes each right of each line, one after the other.
#[test]
fn every_missing_right_is_reported_with_its_command_and_its_remedy() {
    let server = RedisServer::start();
    let all = [
        &[][..],
        &[("REDIS_QUEUE__DELIVERY", "at_least_once"), ("REDIS_QUEUE__RETENTION", "delete")],
        &[("REDIS_QUEUE__RETENTION", "trim_acked")],
    ];
    for (settings, database) in all.into_iter().zip([0, 1, 0]) {
        for account in Account::ALL {
            let name = account.subcommand();
            let url = url(&server, name, database);
            let mut environment = vec![("REDIS_QUEUE__URL", &*url)];
            environment.extend(settings);
            let check = || {
                let output = framepress(&["check", "--for", name, "--json"], &environment);
                assert!(!text(&output).contains(PASSWORD), "{}", text(&output));
                let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                (output.status.code(), report)
            };
            let shown = text(&framepress(&["check", "--show-acl"], &environment));
            let start = format!("ACL SETUSER {name} reset on >PASSWORD resetchannels ");
            let line = shown.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
            let rules: Vec<String> = line.split(' ').map(String::from).collect();
            grant(&server, name, &rules);
            let (code, report) = check();
            // The bridge has no brokers here, which is an error by itself.
            let fine = if account == Account::Bridge { Some(1) } else { Some(0) };
            assert_eq!(code, fine, "{name} with all of {line}: {report:#}");
            let all = report["findings"].as_array().unwrap();
            let rights = all.iter().find(|finding| finding["code"] == "rights.account").unwrap();
            assert_eq!(rights["severity"], "ok", "{report:#}");
            for (index, rule) in rules.iter().enumerate() {
                let mut left = rules.clone();
                left.remove(index);
                grant(&server, name, &left);
                let (code, report) = check();
                assert_eq!(code, Some(1), "{name} without {rule}: {report:#}");
                let remedy = format!("ACL SETUSER {name} {}", greeting(&server).rule(rule));
                let findings = report["findings"].as_array().unwrap().iter();
                let mut findings = findings.filter(|finding| finding["do"] == remedy.as_str());
                let finding = findings.next().unwrap_or_else(|| panic!("{remedy}: {report:#}"));
                assert_eq!(finding["code"], "rights.account");
                assert_eq!(finding["severity"], "error");
                let subject = match rule.split_once('~') {
                    Some((_, key)) => key.to_owned(),
                    None => rule[1..].replace('|', " ").to_uppercase(),
                };
                assert!(finding["what"].as_str().unwrap().contains(&subject), "{finding}");
            }
        }
    }
    // The probes of `check` have changed nothing.
    let keys: u64 = server.ask(&cmd("DBSIZE"));
    assert_eq!(keys, 0, "no stream and no group was made");
}

/// All commands of the table except INFO, which identifies the server of a test.
#[test]
fn every_command_that_the_server_lacks_is_reported_with_its_purpose() {
    let all = [
        When::Database,
        When::Delete,
        When::TrimAcked,
        When::WaitReplicas,
        When::LosslessRing,
        When::Cameras,
        When::Sentinel,
        When::Cluster,
    ];
    let base = |right: &Right| right.rule.split('|').next().unwrap().to_owned();
    let mut options = Vec::new();
    let mut renamed = std::collections::BTreeSet::new();
    for right in Account::ALL.iter().flat_map(|account| account.rights()) {
        if base(right) != "info" && renamed.insert(base(right)) {
            options.extend(["--rename-command".to_owned(), base(right), String::new()]);
        }
    }
    let server = RedisServer::with(&options.iter().map(String::as_str).collect::<Vec<_>>());
    for account in Account::ALL {
        let usage = usage(account, &all);
        let mut control = Control::new(Address::parse(&server.url()).unwrap(), LONG);
        let missing = usage.missing(&mut control).unwrap();
        let wanted: Vec<_> = usage.rights().filter(|right| right.rule != "info").collect();
        assert_eq!(missing.len(), wanted.len(), "{missing:#?}");
        for (missing, right) in missing.iter().zip(wanted) {
            assert_eq!(missing.lack, Lack::Command, "{missing:?}");
            assert_eq!(missing.rule, format!("+{}", right.rule));
            assert_eq!(missing.purpose, right.purpose);
        }
    }
}

/// An unknown command says nothing about the keys.
#[test]
fn a_forbidden_key_is_missed_even_where_there_are_no_scripts() {
    let options = ["--rename-command", "EVAL", "", "--rename-command", "EVALSHA", ""];
    let server = RedisServer::with(&options);
    let usage = usage(Account::Engine, &[]);
    let pattern = format!("~{OUTPUT}");
    let rules: Vec<String> = usage.rules().into_iter().filter(|rule| *rule != pattern).collect();
    let known = |rule: &String| !matches!(rule.as_str(), "+eval" | "+evalsha");
    grant(&server, "other", &rules.into_iter().filter(known).collect::<Vec<_>>());
    let address = Address::parse(&url(&server, "other", 0)).unwrap();
    let missing = usage.missing(&mut Control::new(&address, LONG)).unwrap();
    let lacks: Vec<_> = missing.iter().map(|one| (one.command.as_str(), &one.lack)).collect();
    let key = Lack::Key(OUTPUT.into());
    assert_eq!(lacks, [("XADD", &key), ("EVALSHA", &Lack::Command), ("EVAL", &Lack::Command)]);
}

/// The commands that only other deployments need, on a server that is neither.
#[test]
fn rights_of_sentinel_and_cluster_are_missed_one_by_one() {
    let server = RedisServer::start();
    let conditions = [When::WaitReplicas, When::Sentinel, When::Cluster];
    for account in Account::ALL {
        let usage = usage(account, &conditions);
        let rules = usage.rules();
        let missing = || {
            let address = Address::parse(&url(&server, "other", 0)).unwrap();
            usage.missing(&mut Control::new(&address, LONG)).unwrap()
        };
        grant(&server, "other", &rules);
        assert_eq!(missing(), []);
        for right in usage.rights().filter(|right| conditions.contains(&right.when)) {
            let rule = format!("+{}", right.rule);
            let left: Vec<_> = rules.iter().filter(|known| **known != rule).cloned().collect();
            grant(&server, "other", &left);
            let missing: Vec<_> = missing().into_iter().map(|one| one.rule).collect();
            assert_eq!(missing, [rule], "{account:?}");
        }
    }
}

/// Showing the cameras needs extra rights; frames pass without them.
#[test]
fn rights_for_the_display_of_cameras_are_warned_of() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("framepress.yaml");
    std::fs::write(&config, "cameras: [{id: a, source: 'rtsp://127.0.0.1:9/x'}]").unwrap();
    let config = config.to_str().unwrap();
    for (account, name, rights) in [
        (Account::Engine, "run", &["+hgetall"][..]),
        (Account::Producer, "ingest", &["+hset", "+hdel", "+expire"]),
    ] {
        let url = url(&server, name, 0);
        let check = || {
            let arguments = ["check", "--for", name, "--json", "--config", config];
            let output = framepress(&arguments, &[("REDIS_QUEUE__URL", &url)]);
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let all = report["findings"].as_array().unwrap().iter();
            all.filter(|it| it["code"] == "rights.account").cloned().collect::<Vec<_>>()
        };
        let warned_of = |rule: &str| {
            let warned = check();
            assert!(warned.iter().all(|it| it["severity"] == "warning"), "{warned:#?}");
            let told = |it: &serde_json::Value| it["do"].as_str().unwrap().ends_with(rule);
            assert!(warned.iter().any(told), "{rule}: {warned:#?}");
        };
        let bare = usage(account, &[]).rules();
        grant(&server, name, &bare);
        rights.iter().for_each(|right| warned_of(&greeting(&server).rule(right)));
        let mut without_key = bare;
        without_key.extend(rights.iter().map(|right| (*right).to_owned()));
        grant(&server, name, &without_key);
        warned_of("~camera_frames:ingest");
        grant(&server, name, &usage(account, &[When::Cameras]).rules());
        assert_eq!(check()[0]["severity"], "ok");
        let shown = framepress(&["check", "--show-acl", "--config", config], &[]);
        let rule = "~camera_frames:ingest";
        let line = text(&shown)
            .lines()
            .find(|line| line.starts_with(&format!("ACL SETUSER {name} ")))
            .unwrap()
            .to_owned();
        assert!(line.contains(rule) && line.contains(rights[0]), "{line}");
    }
}
