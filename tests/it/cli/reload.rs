//! SIGHUP: changeable keys take effect, other changed keys are named, an invalid file changes
//! nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use framepress::config::Loader;
use redis::cmd;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{
    FramepressProcess, INPUT, LONG, Output, RedisServer, RunningEngine, protobuf, wait_until,
};

/// A running engine with a configuration file.
struct Subject {
    engine: FramepressProcess,
    server: RedisServer,
    file: PathBuf,
    _folder: TempDir,
}

impl Subject {
    fn start(extra: &str) -> Subject {
        Subject::with(extra, &[], &[])
    }

    /// The same with additional flags and environment variables.
    fn with(extra: &str, flags: &[&str], environment: &[(&str, &str)]) -> Subject {
        let server = RedisServer::start();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("framepress.yaml");
        std::fs::write(&file, text(&server, extra)).unwrap();
        let mut arguments = vec!["run", "--config", file.to_str().unwrap()];
        arguments.extend(flags);
        let engine = FramepressProcess::start(&arguments, environment);
        let subject = Subject { engine, server, file, _folder: folder };
        subject.wait_for("running: ");
        subject
    }

    /// Writes another file and reloads it.
    fn reload(&self, extra: &str) {
        std::fs::write(&self.file, text(&self.server, extra)).unwrap();
        self.engine.signal(Signal::HUP);
    }

    /// The same, and waits until the given key is in force.
    #[track_caller]
    fn reload_with(&self, key: &str, extra: &str) {
        let words = format!("the configuration has been read again: {key}\n");
        let times = || self.engine.said().matches(&words).count();
        let before = times();
        self.reload(extra);
        wait_until(&words, LONG, || times() > before);
    }

    #[track_caller]
    fn wait_for(&self, words: &str) {
        wait_until(words, LONG, || self.engine.said().contains(words));
    }

    /// Sends one more frame and returns its result.
    #[track_caller]
    fn next(&self) -> Output {
        self.next_of("cam")
    }

    #[track_caller]
    fn next_of(&self, camera: &str) -> Output {
        let before = self.server.outputs().len();
        self.server.add(&protobuf("frame", camera));
        self.server.wait_for_outputs(before + 1);
        self.server.outputs().pop().unwrap()
    }
}

fn text(server: &RedisServer, extra: &str) -> String {
    format!(
        "redis_url: {}\nblock_time_ms: 100\nengine: {{pin: 'off'}}\nstats: {{addr: null}}\n{extra}\n",
        server.url()
    )
}

fn quality(output: &Output) -> i32 {
    output.frame.original_image.as_ref().unwrap().quality
}

#[test]
fn what_can_change_while_it_runs_does_and_what_cannot_is_named() {
    let subject = Subject::start("compression_quality: 85");
    let before = subject.next();
    assert_eq!(quality(&before), 85);
    assert!(before.frame.validation_passed && before.frame.thumbnail.is_none());
    subject.reload(
        "compression_quality: 40\nbatch_size: 7\n\
         analysis: {thumbnail: true}\n\
         cameras: [{id: cam, quality_threshold: 1.0, roi_boxes: [{x: 0, y: 0, width: 8, height: 8, label: lane}]}]\n\
         log: {format: json}",
    );
    subject.wait_for("the configuration has been read again: ");
    let after = subject.next();
    assert_eq!(quality(&after), 40);
    assert!(!after.frame.validation_passed, "the camera's threshold counts");
    assert!(after.frame.thumbnail.is_some());
    assert_eq!(after.frame.roi_features[0].roi_id, "lane");
    let said = subject.engine.said();
    for key in ["redis_queue.batch_size", "log.format"] {
        assert!(
            said.contains(&format!("{key} has changed, which takes effect only after a restart")),
            "{said}"
        );
    }
    assert!(
        said.contains("analysis.thumbnail, cameras, redis_queue.compression_quality"),
        "{said}"
    );

    subject.reload("compression_quality: 41");
    wait_until("the camera is as any other again", LONG, || {
        let output = subject.next();
        quality(&output) == 41 && output.frame.roi_features.is_empty()
    });
    assert!(subject.next().frame.validation_passed);
}

#[test]
fn the_quality_of_the_pictures_changes() {
    let subject = Subject::start("redis_queue: {compression_quality: 90}");
    let before = subject.next();
    assert_eq!(quality(&before), 90);
    subject.reload_with("redis_queue.compression_quality", "compression_quality: 10");
    let after = subject.next();
    assert_eq!(quality(&after), 10);
    let bytes =
        |output: &Output| output.frame.original_image.as_ref().unwrap().compressed_data.len();
    assert!(bytes(&after) < bytes(&before), "{} {}", bytes(&after), bytes(&before));
}

#[test]
fn the_general_threshold_changes() {
    let subject = Subject::start("");
    assert!(subject.next().frame.validation_passed);
    subject.reload_with("analysis.quality_threshold", "analysis: {quality_threshold: 1.0}");
    assert!(!subject.next().frame.validation_passed);
    subject.reload_with("analysis.quality_threshold", "quality_threshold: 0.0");
    assert!(subject.next().frame.validation_passed);
}

#[test]
fn the_age_from_which_frames_are_shed_changes() {
    let mut subject = Subject::start("");
    // The age of a frame is the age of its entry id.
    let add_old = |millis: u64| {
        let mut command = cmd("XADD");
        command.arg(INPUT).arg(format!("{millis}-1"));
        for (name, value) in protobuf("old", "cam") {
            command.arg(name).arg(value);
        }
        let _: String = subject.server.ask(&command);
    };
    add_old(1_000);
    subject.server.wait_for_outputs(1);
    subject.reload_with("redis_queue.max_frame_age_ms", "redis_queue: {max_frame_age_ms: 3600000}");
    add_old(2_000);
    assert_eq!(subject.next().text("frame_id"), "frame", "what is young goes through");
    subject.engine.signal(Signal::TERM);
    let said = subject.engine.ends_with(0);
    assert!(said.contains("3 read, 2 out, 0 dead-lettered, 0 rejected, 1 shed"), "{said}");
}

#[test]
fn cameras_get_and_lose_what_is_theirs_alone() {
    let camera = |id: &str| {
        format!(
            "cameras: [{{id: {id}, quality_threshold: 1.0, \
             roi_boxes: [{{x: 0, y: 0, width: 8, height: 8, label: lane-of-{id}}}]}}]"
        )
    };
    let subject = Subject::start(&camera("north"));
    let check = |id: &str, own: bool| {
        let frame = subject.next_of(id).frame;
        let labels: Vec<_> = frame.roi_features.iter().map(|roi| roi.roi_id.clone()).collect();
        let expected: Vec<_> = own.then(|| format!("lane-of-{id}")).into_iter().collect();
        assert_eq!((labels, frame.validation_passed), (expected, !own), "{id}");
    };
    check("north", true);
    check("south", false);
    subject.reload_with("cameras", &camera("south"));
    check("north", false);
    check("south", true);
    // A camera that is configured for the first time.
    subject.reload_with("cameras", &camera("west"));
    check("south", false);
    check("west", true);
}

#[test]
fn what_environment_and_flags_say_stays_above_the_file() {
    let subject = Subject::with(
        "compression_quality: 85",
        &["--log-level", "info"],
        &[("REDIS_QUEUE__COMPRESSION_QUALITY", "33")],
    );
    assert_eq!(quality(&subject.next()), 33);
    // The flag sets the level, so the reload does not change it.
    subject.reload_with(
        "analysis.thumbnail",
        "compression_quality: 40\nanalysis: {thumbnail: true}\nlog: {level: error}",
    );
    let after = subject.next();
    assert!(after.frame.thumbnail.is_some(), "the file counts where nothing else is said");
    assert_eq!(quality(&after), 33);
    subject.reload_with("analysis.thumbnail", "log: {level: error}");
    assert_eq!(quality(&subject.next()), 33);
}

#[test]
fn a_program_cannot_switch_on_or_off_what_the_engine_was_not_built_for() {
    let server = RedisServer::start();
    let other = |flags: &[(&str, &str)]| {
        let all = flags.iter().chain(&[("redis_queue.compression_quality", "20")]);
        let loader = all.fold(Loader::new(), |loader, (key, value)| loader.flag(*key, *value));
        loader.load().unwrap().config
    };
    for (analysed, other_format) in [("false", "png"), ("true", "webp")] {
        let flags = [("analysis.enabled", analysed), ("engine.ordering", "none")];
        let engine = RunningEngine::start(&server, &flags);
        let contrary = if analysed == "true" { "false" } else { "true" };
        engine.view().reload(&other(&[
            ("analysis.enabled", contrary),
            ("analysis.quality_threshold", "1.0"),
            ("redis_queue.compression_format", other_format),
        ]));
        let before = server.outputs().len();
        server.add_frames("cam", 20);
        server.wait_for_outputs(before + 20);
        for output in &server.outputs()[before..] {
            assert_eq!(output.frame.quality_metrics.is_some(), analysed == "true");
            assert_eq!(output.frame.traffic_features.is_some(), analysed == "true");
            let image = output.frame.original_image.as_ref().unwrap();
            assert_eq!((&*image.compression_format, image.quality), ("jpeg", 20));
            assert_eq!(output.frame.validation_passed, analysed == "false", "the threshold counts");
        }
        engine.stop();
    }
}

#[test]
fn the_level_of_the_log_changes_up_and_down() {
    let subject = Subject::start("log: {level: info}");
    subject.reload("log: {level: warn}");
    subject.wait_for("the configuration has been read again: log.level");
    // No log line of level info appears until the level is lowered again.
    subject.reload("log: {level: warn}\ncompression_quality: 30");
    wait_until("taken on in silence", LONG, || quality(&subject.next()) == 30);
    let said = subject.engine.said();
    assert!(!said.contains("read again: redis_queue.compression_quality"), "{said}");
    subject.reload("log: {level: info}\ncompression_quality: 31");
    subject.wait_for("read again: log.level, redis_queue.compression_quality");
}

#[test]
fn a_wrong_file_changes_nothing_and_says_every_fault() {
    let subject = Subject::start("compression_quality: 85");
    subject.reload("compression_quality: 0\nanalysis: {thumbnial: true}");
    subject.wait_for("the engine keeps its configuration");
    let said = subject.engine.said();
    assert!(said.contains("compression_quality = 0"), "{said}");
    assert!(said.contains("did you mean thumbnail?"), "{said}");
    assert_eq!(quality(&subject.next()), 85);
    std::fs::remove_file(&subject.file).unwrap();
    subject.engine.signal(Signal::HUP);
    subject.wait_for("cannot be read");
    assert_eq!(quality(&subject.next()), 85);
}

#[test]
fn reloading_under_load_loses_nothing() {
    const ROUNDS: usize = 20;
    let mut subject = Subject::start("compression_quality: 85");
    for round in 0..ROUNDS {
        let camera = format!("cam-{}", round % 3);
        subject.server.add_frames(&camera, 40);
        subject.reload(&format!("compression_quality: {}", if round % 2 == 0 { 40 } else { 85 }));
    }
    subject.server.wait_until_done();
    subject.server.assert_every_entry_once();
    let qualities: BTreeSet<i32> = subject.server.outputs().iter().map(quality).collect();
    assert!(qualities.is_subset(&BTreeSet::from([40, 85])), "{qualities:?}");
    subject.engine.signal(Signal::TERM);
    subject.engine.ends_with(0);
}
