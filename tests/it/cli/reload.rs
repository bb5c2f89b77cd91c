//! SIGHUP: what can change does, what cannot is named, and a wrong file changes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{FramepressProcess, LONG, Output, RedisServer, protobuf, wait_until};

/// A running engine with a configuration file.
struct Subject {
    engine: FramepressProcess,
    server: RedisServer,
    file: PathBuf,
    _folder: TempDir,
}

impl Subject {
    fn start(extra: &str) -> Subject {
        let server = RedisServer::start();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("framepress.yaml");
        std::fs::write(&file, text(&server, extra)).unwrap();
        let arguments = ["run", "--config", file.to_str().unwrap()];
        let engine = FramepressProcess::start(&arguments, &[]);
        let subject = Subject { engine, server, file, _folder: folder };
        subject.wait_for("running: ");
        subject
    }

    /// Writes another file and has it read.
    fn reload(&self, extra: &str) {
        std::fs::write(&self.file, text(&self.server, extra)).unwrap();
        self.engine.signal(Signal::HUP);
    }

    #[track_caller]
    fn wait_for(&self, words: &str) {
        wait_until(words, LONG, || self.engine.said().contains(words));
    }

    /// Sends one more frame; its result.
    #[track_caller]
    fn next(&self) -> Output {
        let before = self.server.outputs().len();
        self.server.add(&protobuf("frame", "cam"));
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
        assert!(said.contains(&format!("{key} is different now and needs a restart")), "{said}");
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
fn the_level_of_the_log_changes_both_ways() {
    let subject = Subject::start("log: {level: info}");
    subject.reload("log: {level: warn}");
    subject.wait_for("the configuration has been read again: log.level");
    // Nothing of level info after that, until it is wanted again.
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
    subject.wait_for("nothing is changed");
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
