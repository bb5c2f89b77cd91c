//! Checks whether the streams have room. If not, nothing is fetched, but the bridge stays a member
//! of the group.

use super::super::{BATCH_MESSAGES, LOOK};
use super::Inbound;
use crate::base::Fault;
use crate::config::Retention;
use crate::metrics::clock::Tick;
use crate::redis::PlaceKeys;

impl Inbound {
    /// Whether the streams have room for another batch.
    pub(super) fn has_room(&mut self) -> Result<bool, Fault> {
        let most = self.config.kafka.max_stream_length;
        let is_near = self.backlog.saturating_add(4 * BATCH_MESSAGES as u64) > most;
        let is_due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if is_due || is_near {
            self.backlog = self.look()?;
            self.looked = Some(Tick::now());
        }
        let below = if self.status.is_paused() { most - most / 10 } else { most };
        let has_room = self.backlog < below.max(1);
        if !has_room {
            let stream = &self.keys[0].stream;
            let why = format!(
                "{} frames in {stream} are not done, and kafka.max_stream_length is {most}",
                self.backlog
            );
            self.status.set_paused(true, &why);
        }
        Ok(has_room)
    }

    /// Number of unprocessed entries in the streams. Also trims processed entries if the engine
    /// keeps them: without another producer, no other client does so.
    fn look(&mut self) -> Result<u64, Fault> {
        let most = self.config.kafka.max_stream_length;
        let (group, retention) =
            (&self.config.redis_queue.consumer_group, self.config.redis_queue.retention);
        let mut backlog = 0;
        for PlaceKeys { stream, .. } in &self.keys {
            let mut length = self.control.length(stream)?;
            let groups = if length == 0 { Vec::new() } else { self.control.groups(stream)? };
            let ours = groups.iter().find(|found| found.name == *group);
            let waiting = ours.and_then(|it| Some(it.lag? + it.pending));
            // Before Redis 7 a group does not report its lag, so the length counts: trim earlier.
            let kept_max = if waiting.is_some() { 2 * most } else { most - most / 10 };
            if retention == Retention::Keep && ours.is_some() && length > kept_max {
                self.control.trim_acked(stream, group, "", None)?;
                length = self.control.length(stream)?;
            }
            backlog += waiting.map_or(length, |waiting| waiting.min(length));
        }
        Ok(backlog)
    }
}
