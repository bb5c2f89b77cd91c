//! Both streams and the group at the moment of a fault, read in one step with the fault itself, so
//! that the removed entries are known exactly.

use std::collections::HashSet;

use super::archive::{Archive, Stored};
use super::names::{GROUP, Streams};
use super::node::Link;
use crate::Outcome;

const SCRIPT: &str = include_str!("snapshot.lua");

/// A position in a stream.
pub type Place = (u64, u64);

/// The id `1-2` as numbers.
pub fn place(id: &str) -> Place {
    let (millis, number) = id.split_once('-').unwrap_or((id, "0"));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// The state before the fault.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Entry id and frame, in the order of the input stream.
    pub input: Vec<(String, String)>,
    /// Ids in the pending entries list.
    pub pending: HashSet<String>,
    pub has_group: bool,
    pub last_delivered: String,
}

impl Snapshot {
    /// Reads the state and runs `command` in the same step. Archives all results not archived yet.
    /// With `output_ends`, the output stream starts again from empty afterwards.
    pub fn with(
        link: &mut Link,
        streams: &Streams,
        archive: &Archive,
        command: &[&str],
        output_ends: bool,
    ) -> Outcome<Snapshot> {
        let mut results = archive.lock();
        let mut eval = redis::cmd("EVAL");
        eval.arg(SCRIPT).arg(2).arg(&streams.input).arg(&streams.output);
        eval.arg(GROUP).arg(results.from()).arg(command);
        type Answer = (Vec<String>, Vec<String>, Vec<String>, u8, String);
        let (input, output, pending, has_group, last_delivered): Answer = link.query(&eval)?;
        let before = results.times.len();
        for entry in output.chunks_exact(3) {
            let [id, frame, source] = [0, 1, 2].map(|at| entry[at].clone());
            results.add(Stored { id, frame, source, at_ms: archive.now_ms() });
        }
        if output_ends {
            results.restart();
        }
        archive.settle((results.times.len() - before) as u64);
        Ok(Snapshot {
            input: input.chunks_exact(2).map(|it| (it[0].clone(), it[1].clone())).collect(),
            pending: pending.into_iter().collect(),
            has_group: has_group == 1,
            last_delivered,
        })
    }

    /// Frames of the input whose ids satisfy `is_it`.
    pub fn frames<'a>(
        &'a self,
        mut is_it: impl FnMut(&str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a String> {
        self.input.iter().filter(move |(id, _)| is_it(id)).map(|(_, frame)| frame)
    }
}
