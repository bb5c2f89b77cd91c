//! `bench` and `tune` as a person uses them, and the profiles.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use framepress::config::{Config, Count, Loader};

use crate::support::RedisServer;

/// The fields of a `--report` file, on which other programs rely.
const REPORT_FIELDS: [&str; 18] = [
    "frames_in",
    "frames_out",
    "rejected",
    "dead_lettered",
    "shed",
    "lost",
    "in_flight",
    "seconds",
    "throughput_fps",
    "latency_ms",
    "bytes_in",
    "bytes_out",
    "json_base64_bytes",
    "compression_ratio",
    "engine_cpu_ms_per_frame",
    "rss_bytes_max",
    "machine",
    "config",
];

fn framepress(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_framepress")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn load(path: &Path) -> Config {
    Loader::new()
        .file(Some(path.to_owned()))
        .load()
        .unwrap_or_else(|error| panic!("{error}"))
        .config
}

fn keys_of(server: &RedisServer) -> Vec<String> {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("KEYS").arg("*").query(&mut connection).unwrap()
}

#[test]
fn a_bench_of_every_input_reports_every_frame_and_leaves_nothing_behind() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    for (input, rate) in [("raw", "max"), ("jpeg", "200"), ("json", "max")] {
        let path = folder.path().join(input);
        let bench = framepress(&[
            "bench",
            "--redis-url",
            &server.url(),
            "--frames",
            "40",
            "--size",
            "160x120",
            "--input",
            input,
            "--rate",
            rate,
            "--report",
            path.to_str().unwrap(),
        ]);
        assert!(bench.status.success(), "{input}: {}", text(&bench));
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let fields: BTreeSet<&str> =
            report.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, BTreeSet::from(REPORT_FIELDS));
        assert_eq!((&report["frames_in"], &report["frames_out"]), (&40.into(), &40.into()));
        assert_eq!(report["json_base64_bytes"], 40 * (160 * 120 * 4 + 120));
        let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
        assert!(latency("p50") > 0.0 && latency("p50") <= latency("max"), "{report}");
        assert!(report["engine_cpu_ms_per_frame"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(keys_of(&server), Vec::<String>::new());
}

#[test]
fn a_frame_of_an_open_loop_is_not_sent_before_it_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let report = path.to_str().unwrap();
    let bench = framepress(&[
        "bench", "--frames", "21", "--size", "64x48", "--rate", "20", "--report", report,
    ]);
    assert!(bench.status.success(), "{}", text(&bench));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(report["seconds"].as_f64().unwrap() >= 1.0, "{report}");
}

#[test]
fn a_rate_that_is_none_is_refused_before_anything_starts() {
    for (argument, value) in
        [("--rate", "0"), ("--size", "0x4"), ("--frames", "0"), ("--input", "gif")]
    {
        let bench = framepress(&["bench", argument, value]);
        assert_eq!(bench.status.code(), Some(2), "{argument} {value}: {}", text(&bench));
    }
}

#[test]
fn a_file_that_cannot_be_written_is_known_before_anything_starts() {
    for (subcommand, flag) in [("demo", "--report"), ("bench", "--report"), ("tune", "--write")] {
        let output = framepress(&[subcommand, flag, "/proc/nobody/report.json"]);
        assert_eq!(output.status.code(), Some(1), "{subcommand}: {}", text(&output));
        assert!(output.stdout.is_empty(), "{subcommand}: {}", text(&output));
        let said = text(&output);
        assert!(said.contains("cannot write /proc/nobody/report.json"), "{subcommand}: {said}");
    }
    // An existing file stays if the run fails.
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old.json", "new.json"].map(|name| folder.path().join(name));
    std::fs::write(&old, "from before").unwrap();
    for path in [&old, &new] {
        let path = path.to_str().unwrap();
        let nowhere = ["bench", "--redis-url", "http://x", "--report", path];
        assert_eq!(framepress(&nowhere).status.code(), Some(2));
    }
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "from before");
    assert!(!new.exists());
}

#[test]
fn tune_writes_a_configuration_with_its_evidence_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuned.yaml");
    let tune = framepress(&[
        "tune",
        "--seconds",
        "6",
        "--size",
        "160x120",
        "--write",
        path.to_str().unwrap(),
    ]);
    assert!(tune.status.success(), "{}", text(&tune));
    let written = std::fs::read_to_string(&path).unwrap();
    for knob in ["engine.workers", "engine.committers", "redis_queue.batch_size", "engine.pin"] {
        assert!(written.contains(&format!("  # {knob}: ")), "{knob}:\n{written}");
    }
    assert!(written.contains("frames/s"), "the evidence has figures:\n{written}");
    let config = load(&path);
    let builtin = Config::builtin();
    assert_eq!(config.redis_queue.url, builtin.redis_queue.url, "the private server is not kept");
    assert_eq!(config.redis_queue.input_queue, builtin.redis_queue.input_queue);
    assert_eq!(config.redis_queue.retention, builtin.redis_queue.retention);
}

#[test]
fn tune_keeps_what_was_configured_and_writes_no_secret() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (asked, written) = (folder.path().join("asked.yaml"), folder.path().join("tuned.yaml"));
    let yaml = format!(
        "redis_queue:\n  url: {}\n  input_queue: lane_seven\n  compression_quality: 71\n\
         stats:\n  token: hush-hush\nengine:\n  workers: 1\n",
        server.url()
    );
    std::fs::write(&asked, yaml).unwrap();
    let tune = framepress(&[
        "tune",
        "--config",
        asked.to_str().unwrap(),
        "--goal",
        "bandwidth",
        "--seconds",
        "5",
        "--size",
        "64x48",
        "--write",
        written.to_str().unwrap(),
    ]);
    assert!(tune.status.success(), "{}", text(&tune));
    let config = load(&written);
    assert_eq!(config.redis_queue.input_queue, "lane_seven");
    assert_eq!(config.redis_queue.compression_quality, 71);
    assert_eq!(config.engine.workers, Count::Fixed(1));
    let text = std::fs::read_to_string(&written).unwrap();
    assert!(!text.contains("hush-hush") && text.contains("STATS__TOKEN"), "{text}");
    assert!(text.contains("# redis_queue.webp_method: jpeg against 0: "), "{text}");
    assert_eq!(keys_of(&server), Vec::<String>::new(), "nothing is left on a server that goes on");
}

#[test]
fn the_profiles_load_and_say_what_they_are_for() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("perf/profiles");
    let profile = |name: &str| load(&folder.join(format!("{name}.yaml")));
    let builtin = Config::builtin().redis_queue;
    assert!(profile("high-throughput").redis_queue.batch_size > builtin.batch_size);
    let quick = profile("low-latency").redis_queue;
    assert!(quick.batch_size < builtin.batch_size && quick.max_frame_age_ms > 0);
    let small = profile("bandwidth-optimised").redis_queue;
    assert_eq!(small.compression_format.to_string(), "webp");
    assert_eq!(small.webp_method.to_string(), "auto", "a fixed one breaks 100 ms at 1080p");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 3);
}
