//! Progress of the consumer groups of the input streams.

use redis::streams::StreamInfoGroupsReply;

use super::GROUP;
use crate::Outcome;
use crate::server::Plain;

/// The groups of all shards at one moment, summed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Entries that are acknowledged.
    pub done: u64,
    /// Entries delivered and not acknowledged, and entries not yet delivered.
    pub waiting: u64,
    /// Consumers that have read at least once.
    pub consumers: u64,
}

impl Progress {
    /// Asks the server, which must be Redis 7 or later to report this.
    pub fn of(plain: &mut Plain, inputs: &[String]) -> Outcome<Progress> {
        let mut questions = redis::pipe();
        for input in inputs {
            questions.cmd("XINFO").arg("GROUPS").arg(input);
        }
        let answers: Vec<StreamInfoGroupsReply> = plain.run_all(&questions)?;
        answers.into_iter().try_fold(Progress::default(), |sum, groups| {
            let ours = groups.groups.into_iter().find(|ours| ours.name == GROUP);
            let ours = ours.ok_or("the group is gone")?;
            let Some(lag) = ours.lag else {
                return Err("redis-server does not tell the lag of a group: 7.0 or later is \
                            needed, and frames must not be trimmed before they are read"
                    .into());
            };
            // Unknown before the first read.
            let read = ours.entries_read.unwrap_or(0);
            Ok(Progress {
                done: sum.done + (read as u64).saturating_sub(ours.pending as u64),
                waiting: sum.waiting + lag as u64 + ours.pending as u64,
                consumers: sum.consumers + ours.consumers as u64,
            })
        })
    }
}
