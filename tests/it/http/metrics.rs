//! `/metrics`, as a monitoring system reads it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use framepress::internals::base::Stop;
use framepress::internals::metrics::{Counter, Metrics, Series, SeriesKind};
use framepress::internals::redis::{Retention, Streams};
use framepress::internals::stage::group::{Groups, Shard};
use framepress::internals::stage::watch::{Queues, Watcher};
use parking_lot::Mutex;
use redis::cmd;

use super::Site;
use crate::support::{
    LONG, RedisServer, RunningEngine, data, has_program, protobuf, skip, wait_until,
};

/// Samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// An engine that has stored three results and refused one frame.
fn worked(server: &RedisServer) -> (RunningEngine, Site) {
    let engine = RunningEngine::start(server, &[]);
    let site = Site::of(&engine, None);
    server.add_all([&protobuf("f1", "a"), &protobuf("f2", "b\"\\\n"), &protobuf("f3", "")]);
    server.add(&data("no frame"));
    wait_until("all is done", LONG, || {
        let account = engine.account();
        (account.out, account.dead_lettered) == (3, 1)
    });
    (engine, site)
}

#[test]
fn promtool_finds_nothing_to_criticise() {
    if !has_program("promtool") {
        skip("promtool is not installed; on Debian: apt-get install prometheus");
        return;
    }
    let server = RedisServer::start();
    let (_engine, site) = worked(&server);
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&site.get("/metrics").body).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn every_series_is_there_with_its_kind_and_meaning() {
    let server = RedisServer::start();
    let (engine, site) = worked(&server);
    wait_until("the queues have been looked at", LONG, || {
        engine.view().queues.lock().input.lag.is_some()
    });
    let scrape = site.get("/metrics");
    let text = scrape.text();
    for series in Series::ALL {
        let name = series.name();
        let kind = match series.kind() {
            SeriesKind::Counter => "counter",
            SeriesKind::Gauge => "gauge",
            SeriesKind::Histogram => "histogram",
        };
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}\n{text}");
        assert!(text.contains(&format!("# HELP {name} {}\n", series.help())), "{name}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.contains(&format!("framepress_build_info{{version=\"{version}\"")), "{text}");
}

#[test]
fn the_figures_are_those_of_the_engine_and_counters_never_fall() {
    let server = RedisServer::start();
    let (engine, site) = worked(&server);
    let first = samples(site.get("/metrics").text());
    assert_eq!(first["framepress_frames_read_total"], 4.0);
    assert_eq!(first["framepress_frames_total{outcome=\"out\"}"], 3.0);
    assert_eq!(first["framepress_dead_letters_total{reason=\"undecodable\"}"], 1.0);
    assert_eq!(first["framepress_end_to_end_seconds_count"], 3.0);
    assert_eq!(first["framepress_end_to_end_seconds_bucket{le=\"+Inf\"}"], 3.0);
    assert_eq!(first["framepress_stage_seconds_count{stage=\"encode\"}"], 3.0);
    assert_eq!(first["framepress_lane_frames{lane=\"read\"}"], 0.0, "all has been taken out");
    assert_eq!(first["framepress_lane_frames{lane=\"commit\"}"], 0.0);
    assert_eq!(first["framepress_ready"], 1.0);
    let of_b = r#"framepress_camera_frames_total{camera="b\"\\\n",outcome="processed"}"#;
    assert_eq!(first[of_b], 1.0, "names are escaped");
    let ratio = first["framepress_image_bytes_total"] / first["framepress_raw_pixel_bytes_total"];
    assert!((first["framepress_compression_ratio"] - ratio).abs() < 1e-9);

    server.add_frames("a", 20);
    wait_until("the frames are out", LONG, || engine.account().out == 23);
    let second = samples(site.get("/metrics").text());
    let grows = |name: &str| {
        let family = name.split('{').next().unwrap();
        ["_total", "_bucket", "_sum", "_count"].iter().any(|end| family.ends_with(end))
    };
    for (name, before) in first.iter().filter(|(name, _)| grows(name)) {
        assert!(second[name] >= *before, "{name} fell from {before} to {}", second[name]);
    }
    assert_eq!(second["framepress_end_to_end_seconds_count"], 23.0);
    for family in ["framepress_end_to_end_seconds", "framepress_processing_seconds"] {
        let text = site.get("/metrics").text().to_owned();
        let start = format!("{family}_bucket");
        let buckets: Vec<f64> = text
            .lines()
            .filter(|line| line.starts_with(&start))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert!(buckets.len() > 10 && buckets.is_sorted(), "{family}: {buckets:?}");
    }
}

#[test]
fn many_cameras_are_few_series() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, None);
    let frames: Vec<_> = (0..70).map(|camera| protobuf("f", &format!("cam{camera}"))).collect();
    server.add_all(&frames);
    wait_until("the frames are out", LONG, || engine.account().out == 70);
    let found = samples(site.get("/metrics").text());
    let own = found.iter().filter(|(name, _)| name.starts_with("framepress_camera_frames_total"));
    assert_eq!(own.clone().count(), 50 * 3, "three outcomes each");
    assert_eq!(own.map(|(_, count)| count).sum::<f64>(), 50.0);
    let others = "framepress_other_camera_frames_total{outcome=\"processed\"}";
    assert_eq!(found[others], 20.0, "nobody is left out of the sum");
}

#[test]
fn an_input_that_may_not_be_deleted_is_said_although_the_engine_is_ready() {
    let server = RedisServer::start();
    let _: () = server.ask(cmd("ACL").arg("SETUSER").arg("default").arg("-xdel"));
    // Some servers lack this command.
    let mut also = cmd("ACL");
    let _ = also.arg("SETUSER").arg("default").arg("-xackdel").query::<()>(&mut server.connect());
    let engine = RunningEngine::start(&server, &[("redis_queue.retention", "delete")]);
    let site = Site::of(&engine, None);
    assert_eq!(site.get("/readyz").text(), "ok\n");
    server.add_frames("cam", 3);
    server.wait_until_done();
    wait_until("all are counted", LONG, || engine.count(Counter::DeletesRefused) == 3);
    let answer = site.get("/readyz");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text(),
        "ok\nthe input grows: the server refused to delete 3 acknowledged entries\n"
    );
    let series = samples(site.get("/metrics").text());
    assert!((series["framepress_deletes_refused_total"] - 3.0).abs() < f64::EPSILON);
}

#[test]
fn depth_and_limit_are_those_of_all_shards() {
    let server = RedisServer::start();
    let flags = [
        ("redis_queue.shards", "3"),
        ("redis_queue.max_queue_length", "1000"),
        ("redis_queue.dead_letter_max_length", "500"),
    ];
    let engine = RunningEngine::start(&server, &flags);
    let site = Site::of(&engine, None);
    let json = site.get("/api/v1/system/metrics").json();
    let series = samples(site.get("/metrics").text());
    for (queue, limit) in [("output", 3000), ("dead_letter", 1500)] {
        assert_eq!(json["queue_metrics"][queue]["limit"], limit, "{queue}");
        let name = format!("framepress_queue_limit_entries{{queue=\"{queue}\"}}");
        assert_eq!(series[&name], f64::from(limit), "{queue}");
    }
}

/// Runs `body` beside a watcher of two shards. No engine reads the second shard, so its group is
/// never created.
fn watching(streams: [Streams; 2], engine: &RunningEngine, body: impl FnOnce(&Mutex<Queues>)) {
    let mut settings = engine.view().plan.watch.clone();
    settings.streams = streams.to_vec();
    let (queues, stop) = (Arc::new(Mutex::new(Queues::default())), Stop::default());
    let metrics = Metrics::new();
    let shards = streams.map(|names| Shard::new(names, vec!["engine-0".into()], &metrics));
    let topology = engine.view().topology.clone();
    let groups = Groups::new(
        &topology,
        &settings.group,
        Retention::Keep,
        shards.into(),
        Arc::clone(&metrics),
        stop.clone(),
    );
    let watcher = Watcher::new(
        settings,
        Arc::clone(&queues),
        Arc::default(),
        Arc::default(),
        metrics,
        Arc::new(groups.unwrap()),
        stop.clone(),
    );
    std::thread::scope(|scope| {
        // Whatever happens, the watcher ends.
        struct End<'a>(&'a Stop);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.drain();
            }
        }
        let _end = End(&stop);
        scope.spawn(|| watcher.run().unwrap());
        body(&queues);
    });
}

fn ours() -> Streams {
    Streams::new("camera_frames", "processed_frames")
}

fn other() -> Streams {
    Streams::new("other:in", "other:out")
}

#[test]
fn lag_is_unknown_while_a_shard_has_no_group() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let group = engine.view().plan.watch.group.clone();
    let _: String = server.ask(cmd("XADD").arg("other:in").arg("*").arg("field").arg("value"));
    watching([ours(), other()], &engine, |queues| {
        wait_until("the queues are looked at", LONG, || queues.lock().input.depth == 1);
        assert_eq!(queues.lock().input.lag, None);
        let mut create = cmd("XGROUP");
        let _: () = server.ask(create.arg("CREATE").arg("other:in").arg(group).arg("0"));
        wait_until("the lag is known", LONG, || queues.lock().input.lag == Some(1));
    });
}

#[test]
fn a_shard_that_cannot_be_looked_at_leaves_the_others_their_figures() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let _: () = server.ask(cmd("SET").arg("no:stream").arg("value"));
    let broken = Streams::new("no:stream", "no:results");
    watching([broken, other()], &engine, |queues| {
        for depth in 1..=2 {
            let _: String =
                server.ask(cmd("XADD").arg("other:in").arg("*").arg("field").arg("value"));
            wait_until("the other is looked at", LONG, || queues.lock().input.depth == depth);
        }
        assert!(queues.lock().server_memory.used > 0);
        assert_eq!(queues.lock().input.lag, None, "known only if it is known of every shard");
    });
}
