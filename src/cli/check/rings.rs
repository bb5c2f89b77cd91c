//! Judges frame rings: existing ones, and streams with frames that would benefit from one.

use std::io::ErrorKind;
use std::path::Path;

use super::finding::Finding;
use crate::cli::output::human_bytes;
use crate::config::Config;
use crate::redis::Survey;
use crate::ring::{self, Listed};

/// Mean entry size in bytes from which on frames count as large enough for a ring.
const LARGE: u64 = 300_000;

/// The findings for the rings in the configured folder.
pub(super) fn judge(config: &Config) -> Vec<Finding> {
    let folder = config.ring.folder();
    let code = "machine.rings";
    match ring::list(&folder) {
        Ok(listed) if listed.is_empty() => {
            vec![Finding::ok(code, format!("no frame rings in {}", folder.display()))]
        }
        Ok(listed) => listed.iter().map(|listed| one(&folder, listed)).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let what = format!("no frame rings: {} is not there", folder.display());
            vec![Finding::ok(code, what)]
        }
        Err(error) => {
            let what = format!("the frame rings in {} cannot be seen: {error}", folder.display());
            vec![
                Finding::warning(code, what)
                    .why(
                        "frames with their pixels there would become dead letters with the reason \
                         ring_gone",
                    )
                    .mend("let the account of the engine read that folder, or set ring.dir"),
            ]
        }
    }
}

fn one(folder: &Path, ring: &Listed) -> Finding {
    let (code, name) = ("machine.rings", &ring.name);
    match &ring.header {
        Ok(header) => {
            let producer = match ring.has_producer {
                Some(true) => ", a producer holds it",
                Some(false) => ", its producer is gone",
                None => "",
            };
            let (slots, room) = (header.slots, human_bytes(header.room));
            Finding::ok(code, format!("ring {name}: {slots} slots of {room}{producer}"))
        }
        Err(detail) => Finding::warning(code, detail.clone())
            .why(
                "frames with their pixels there would become dead letters with the reason \
                 ring_gone",
            )
            .mend(format!("restart its producer, or remove {name}.ring from {}", folder.display())),
    }
}

/// A note about large frames that pass through a Redis on this machine.
pub(super) fn gain(survey: &Survey) -> Vec<Finding> {
    let inputs = survey.streams.iter().map(|streams| &streams.input);
    let large = inputs.filter_map(|input| {
        let average = input.memory_bytes.checked_div(input.length)?;
        (average >= LARGE).then(|| {
            let what = format!("{}: {} an entry, through Redis", input.name, human_bytes(average));
            Finding::note("streams.ring", what)
                .why("every pixel is copied into Redis and out of it again")
                .mend(
                    "let a producer on this machine leave the pixels in a frame ring; see \
                     docs/ring.md",
                )
        })
    });
    large.take(1).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Note, Ok, Warning};
    use super::super::finding::tests::only;
    use super::super::tests::{config, healthy};
    use super::*;
    use crate::ring::{Ring, RingOptions};

    #[test]
    fn rings_are_named_and_broken_ones_are_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        only(&judge(&config(&[("ring.dir", &dir)])), "machine.rings", Ok);
        only(&judge(&config(&[("ring.dir", "/no/such/folder")])), "machine.rings", Ok);
        let options = RingOptions {
            folder: folder.path().to_owned(),
            name: "cam".into(),
            slots: 4,
            frame_bytes_max: 5000,
        };
        let _ring = Ring::create(&options).unwrap();
        let found = judge(&config(&[("ring.dir", &dir)]));
        assert_eq!(found[0].what, "ring cam: 4 slots of 8.00 KiB, a producer holds it");
        std::fs::write(folder.path().join("bad.ring"), "").unwrap();
        assert_eq!(judge(&config(&[("ring.dir", &dir)]))[0].severity, Warning);
    }

    #[test]
    fn large_frames_through_redis_are_noted() {
        let mut survey = healthy();
        assert!(gain(&survey).is_empty());
        (survey.streams[0].input.length, survey.streams[0].input.memory_bytes) = (10, 9_300_000);
        only(&gain(&survey), "streams.ring", Note);
    }
}
