//! The files in deploy/ that this machine can run: Redis' configuration, accounts and Sentinel, the
//! engine's configurations, the health check.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use framepress::config::{Config, Loader};
use framepress::internals::redis::Embedded;
use redis::{Value, cmd};
use tempfile::TempDir;

use crate::house::tracked_files;
use crate::support::{FramepressProcess, LONG, RedisServer, free_port, root, skip, wait_until};

fn deploy(name: &str) -> PathBuf {
    root().join("deploy").join(name)
}

/// The shipped settings except for the listening address, and the shipped accounts plus one with
/// which a test may do anything.
struct Shipped {
    folder: TempDir,
}

impl Shipped {
    fn new(users: &str) -> Shipped {
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(deploy("redis/redis.conf")).unwrap();
        let here =
            |line: &&str| ["port ", "bind ", "aclfile "].iter().all(|key| !line.starts_with(key));
        let settings: Vec<&str> = text.lines().filter(here).collect();
        assert_eq!(settings.len() + 3, text.lines().count(), "port, bind and aclfile");
        std::fs::write(folder.path().join("redis.conf"), settings.join("\n")).unwrap();
        let text = std::fs::read_to_string(deploy(users)).unwrap();
        assert!(text.starts_with("user default off\n"));
        let text = text.replacen("default off", "default on nopass allchannels ~* +@all", 1);
        std::fs::write(folder.path().join("users.acl"), text).unwrap();
        Shipped { folder }
    }

    fn server(&self, options: &[&str]) -> RedisServer {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (settings, users) = (path("redis.conf"), path("users.acl"));
        RedisServer::with(&[&["--include", &settings, "--aclfile", &users], options].concat())
    }
}

fn check(server: &RedisServer, user: &str, account: &str) -> (serde_json::Value, Option<i32>) {
    let url = format!("redis://{user}@127.0.0.1:{}/0", server.port());
    let output = Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(["check", "--json", "--for", account, "--redis-url", &url])
        .output()
        .unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
}

#[test]
fn redis_as_shipped_has_nothing_to_mend() {
    let shipped = Shipped::new("redis/users.acl");
    let server = shipped.server(&[]);
    let (report, code) = check(&server, "admin:change-me-admin", "run");
    assert_eq!(code, Some(0), "{report:#}");
    for finding in report["findings"].as_array().unwrap() {
        // The kernel settings of this machine are not part of that file.
        let machine = finding["code"].as_str().unwrap().starts_with("machine.");
        assert!(
            machine || ["ok", "note"].contains(&finding["severity"].as_str().unwrap()),
            "{finding:#}"
        );
    }
}

#[test]
fn the_accounts_as_shipped_may_do_their_work_and_no_more() {
    let shipped = Shipped::new("redis/users.acl");
    let server = shipped.server(&[]);
    for (user, account) in [
        ("framepress:change-me-engine", "run"),
        ("camera:change-me-camera", "ingest"),
        ("viewer:change-me-viewer", "inspect"),
        ("viewer:change-me-viewer", "dlq"),
    ] {
        let (report, code) = check(&server, user, account);
        assert_eq!(code, Some(0), "{user}: {report:#}");
    }
    for (user, account) in [("camera:change-me-camera", "run"), ("viewer:change-me-viewer", "run")]
    {
        assert_eq!(check(&server, user, account).1, Some(1), "{user} is no engine");
    }
    // Exactly the rights that each shipped configuration needs.
    for config in ["systemd", "compose", "kubernetes"] {
        assert_rights_are_those_of(&format!("{config}/framepress.yaml"), &[], "redis/users.acl");
    }

    let sentinels = [("REDIS_QUEUE__URL", "redis-sentinel://192.0.2.1:26379/framepress/0")];
    assert_rights_are_those_of("compose/framepress.yaml", &sentinels, "redis/users-sentinel.acl");

    // The autoscaler asks for the version and the lag.
    server.create_group(crate::support::GROUP);
    let url = format!("redis://scaler:change-me-scaler@127.0.0.1:{}/0", server.port());
    let mut scaler = redis::Client::open(url).unwrap().get_connection().unwrap();
    let _: String = cmd("INFO").query(&mut scaler).unwrap();
    let _: Value = cmd("XINFO").arg("GROUPS").arg("camera_frames").query(&mut scaler).unwrap();
    let refused = cmd("XLEN").arg("processed_frames").query::<Value>(&mut scaler);
    assert_eq!(refused.unwrap_err().code(), Some("NOPERM"));
}

/// Asserts that engine, cameras and bridge have exactly the rights that `check --show-acl` prints
/// for a configuration with cameras.
#[track_caller]
fn assert_rights_are_those_of(config: &str, variables: &[(&str, &str)], users: &str) {
    let text = std::fs::read_to_string(deploy(config)).unwrap();
    let cameras = "cameras: [{id: north, source: 'rtsp://192.0.2.1/sub'}]";
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), format!("{text}\n{cameras}\n")).unwrap();
    let shown = Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(["check", "--show-acl", "--config"])
        .arg(file.path())
        .envs(variables.iter().copied())
        .output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    let text = std::fs::read_to_string(deploy(users)).unwrap();
    let accounts = [
        ("run", "framepress", "engine"),
        ("ingest", "camera", "camera"),
        ("bridge", "bridge", "bridge"),
    ];
    for (account, user, password) in accounts {
        let start = format!("ACL SETUSER {account} reset on >PASSWORD ");
        let Some(rules) = shown.lines().find_map(|line| line.strip_prefix(&start)) else {
            assert!(account == "bridge" && !cfg!(feature = "kafka"), "{account}: {shown}");
            continue;
        };
        let line = format!("user {user} on >change-me-{password} {rules}\n");
        assert!(text.contains(&line), "{users} should hold for {config}: {line}");
    }
}

#[test]
fn the_accounts_of_several_engines_may_do_their_work_and_no_more() {
    let shards = [("REDIS_QUEUE__SHARDS", "12"), ("REDIS_QUEUE__ASSIGNMENT", "exclusive")];
    let users = "redis/users-engines.acl";
    assert_rights_are_those_of("compose/framepress.yaml", &shards, users);
    let server = Shipped::new(users).server(&[]);
    for (user, account, expected) in [
        ("framepress:change-me-engine", "run", 0),
        ("camera:change-me-camera", "ingest", 0),
        ("viewer:change-me-viewer", "inspect", 0),
        ("viewer:change-me-viewer", "dlq", 0),
        ("camera:change-me-camera", "run", 1),
    ] {
        let url = format!("redis://{user}@127.0.0.1:{}/0", server.port());
        let output = Command::new(env!("CARGO_BIN_EXE_framepress"))
            .args(["check", "--for", account, "--redis-url", &url])
            .envs(shards)
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(expected), "{user} for {account}: {report}");
    }
    let as_shipped = deploy("compose/framepress.yaml");
    let url = format!("redis://framepress:change-me-engine@127.0.0.1:{}/0", server.port());
    let engine = FramepressProcess::start(
        &["run", "--config", &as_shipped.display().to_string(), "--redis-url", &url],
        &[&shards[..], &[("STATS__ADDR", "127.0.0.1:0")]].concat(),
    );
    wait_until("the engine holds every shard", LONG, || {
        (0..12).all(|shard| {
            let lease = format!("camera_frames:{{{shard}}}:lease");
            let holder: Option<String> = server.ask(cmd("HGET").arg(lease).arg("holder"));
            holder.is_some_and(|holder| !holder.is_empty())
        })
    });
    drop(engine);
}

/// Dropping the value ends the process.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sentinel(folder: &Path, primary: u16, port: u16) -> Running {
    let text = std::fs::read_to_string(deploy("redis/sentinel.conf")).unwrap();
    let text = text
        .replace("port 26379", &format!("port {port}\nbind 127.0.0.1"))
        .replace("framepress redis-1 6379 2", &format!("framepress 127.0.0.1 {primary} 1"));
    let path = folder.join("sentinel.conf");
    std::fs::write(&path, text).unwrap();
    let child = Command::new(Embedded::program())
        .arg(path)
        .args(["--sentinel", "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.unwrap())
}

#[test]
fn sentinel_and_replicas_work_with_the_accounts_as_shipped() {
    let shipped = Shipped::new("redis/users-sentinel.acl");
    let replication = ["--masteruser", "replica", "--masterauth", "change-me-replica"];
    let primary = shipped.server(&replication);
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = shipped.server(&[&replication[..], &["--replicaof", &of]].concat());
    // A failover breaks connections; in that case there is no answer, and the test asks again.
    let role = |server: &RedisServer| {
        let role = server
            .try_connect()
            .and_then(|mut connection| cmd("ROLE").query::<Vec<Value>>(&mut connection));
        role.ok().and_then(|role| redis::from_redis_value_ref::<String>(role.first()?).ok())
    };
    let info = |server: &RedisServer| -> String { server.ask(cmd("INFO").arg("replication")) };
    wait_until("a replica in step", LONG, || info(&primary).contains("state=online"));
    let is = |server: &RedisServer, name: &str| role(server).as_deref() == Some(name);
    assert!(is(&primary, "master") && is(&replica, "slave"));

    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _sentinel = sentinel(folder.path(), primary.port(), port);
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let ask = |words: [&str; 3]| -> redis::RedisResult<Value> {
        let mut connection = client.get_connection()?;
        cmd(words[0]).arg(words[1]).arg(words[2]).query(&mut connection)
    };
    // Refused with NOGOODSLAVE until the Sentinel knows the replica.
    wait_until("a failover begins", LONG, || ask(["SENTINEL", "FAILOVER", "framepress"]).is_ok());
    wait_until("the replica is the primary", LONG, || is(&replica, "master"));
    wait_until("the old primary follows", LONG, || is(&primary, "slave"));
}

#[test]
fn the_configurations_of_the_engine_are_valid() {
    let mut found = 0;
    for folder in std::fs::read_dir(root().join("deploy")).unwrap() {
        let file = folder.unwrap().path().join("framepress.yaml");
        if file.exists() {
            let loaded = Loader::new().file(Some(file.clone())).load();
            assert!(loaded.is_ok(), "{}: {}", file.display(), loaded.unwrap_err());
            found += 1;
        }
    }
    assert_eq!(found, 3, "compose, kubernetes and systemd");
}

/// Runs the health check of each image against its target, on ports of the test.
#[test]
fn the_health_checks_of_the_images_tell_alive_from_dead() {
    let text = std::fs::read_to_string(deploy("Dockerfile")).unwrap();
    let checks: Vec<&str> = text.lines().filter(|line| line.starts_with("HEALTHCHECK")).collect();
    assert_eq!(checks.len(), 2, "one for each image");
    for check in checks {
        let (_, words) = check.split_once("CMD ").unwrap();
        let words: Vec<String> = serde_json::from_str(words).unwrap();
        assert_eq!(words[0], "/usr/bin/framepress");
        let server = RedisServer::start();
        let address = format!("127.0.0.1:{}", free_port());
        let mut engine = FramepressProcess::run(&server, &[("STATS__ADDR", &address)]);
        let healthy = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_framepress"));
            command.args(&words[1..]).args(["--url", &address]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        };
        wait_until("a healthy engine", LONG, healthy);
        engine.kill();
        assert!(!healthy(), "the engine is gone");
    }
}

#[test]
fn the_example_for_sixteen_cameras_is_a_configuration() {
    for name in ["cameras.example.yaml", "kubernetes/cameras/cameras.yaml"] {
        let config = Loader::new().file(Some(deploy(name))).load().unwrap().config;
        assert_eq!(config.cameras.len(), 16, "{name}");
        assert!(config.cameras.iter().all(|camera| camera.has_source() && camera.enabled));
        assert_eq!(config.cameras[0].feed.fps, Some(5.0));
    }
}

/// Compose, Kubernetes, systemd, scripts and documents set and explain keys by these names.
#[test]
fn the_keys_that_shipped_files_name_exist() {
    let keys: Vec<String> = Config::keys()
        .iter()
        .map(|key| [key.section, key.name].join(".").trim_start_matches('.').to_owned())
        .collect();
    let sections: Vec<&str> = Config::keys().iter().map(|key| key.section).collect();
    let is_known = |name: &str| keys.iter().any(|key| key == name) || sections.contains(&name);
    let files = tracked_files();
    if files.is_empty() {
        return skip("keys that shipped files name: not a git checkout");
    }
    let (mut unknown, mut found) = (Vec::new(), 0);
    let mut check = |path: &str, name: &str, as_written: &str| {
        found += 1;
        if !is_known(name) {
            unknown.push(format!("{path}: {as_written}"));
        }
    };
    let is_shipped = |path: &str| path.starts_with("deploy/") || path.ends_with(".md");
    for (path, text) in files.into_iter().filter(|(path, _)| is_shipped(path)) {
        let is_variable = |letter: char| letter.is_ascii_uppercase() || letter == '_';
        for word in text.split(|letter: char| !is_variable(letter)) {
            let section = word.split("__").next().unwrap_or_default().to_ascii_lowercase();
            if word.contains("__") && !section.is_empty() && sections.contains(&&*section) {
                check(&path, &word.to_ascii_lowercase().replace("__", "."), word);
            }
        }
        // docs/check.md has the codes of findings, which look like keys.
        let is_document = path.ends_with(".md") && path != "docs/check.md";
        for word in text.split('`').skip(1).step_by(2).filter(|_| is_document) {
            let name = word.split([':', ' ', '=']).next().unwrap_or_default();
            let is_key = name.split('.').all(|part| {
                !part.is_empty() && part.chars().all(|it| it.is_ascii_lowercase() || it == '_')
            });
            let Some((section, rest)) = name.split_once('.') else { continue };
            let is_file = ["yaml", "rs", "service", "yml", "log"].contains(&rest);
            if is_key && !is_file && sections.contains(&section) {
                check(&path, name, word);
            }
        }
    }
    assert!(found > 100, "{found} names of keys");
    assert!(unknown.is_empty(), "{unknown:#?}");
}
