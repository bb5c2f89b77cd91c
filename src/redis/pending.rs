//! The reading side's other half: entries that were delivered before and never acknowledged, to
//! this consumer or to another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::source::{Asked, Deliver, Delivered, Source};
use crate::base::{Fault, limits};
use crate::frame::{EntryId, Origin, RawFrame};
use crate::metrics::clock::Tick;

impl Source {
    /// Delivers up to `count` entries of our own pending list that come after `after`. With
    /// `trust_counts`, they carry the server's delivery count; without, they count as new, for
    /// the deliveries that a lost connection swallowed are not the entry's fault.
    ///
    /// # Errors
    /// As [`Source::receive`].
    pub fn own_pending(
        &mut self,
        after: EntryId,
        count: usize,
        trust_counts: bool,
        deliver: &mut Deliver<'_>,
    ) -> Result<Delivered, Fault> {
        let at = Tick::now();
        let options = Arc::clone(&self.options);
        self.request.clear();
        self.request.command(7).arg("XPENDING").arg(&options.stream).arg(&options.group);
        self.request.arg(format!("({after}")).arg("+").number(count).arg(&options.consumer);
        self.connection.send(&self.request, &[])?;
        let mut deliveries = HashMap::with_capacity(count.min(limits::BATCH_SIZE_MAX));
        self.pending_list(&mut deliveries)?;

        self.request.clear();
        self.request.command(9).arg("XREADGROUP").arg("GROUP").arg(&options.group);
        self.request.arg(&options.consumer).arg("COUNT").number(count);
        self.request.arg("STREAMS").arg(&options.stream).number(after);
        self.connection.send(&self.request, &[])?;
        let Some(count) = self.stream_reply("XREADGROUP")? else { return Ok(Delivered::Nothing) };
        let origin = |id: EntryId| {
            let before = deliveries.get(&id).copied().unwrap_or(0);
            Origin::Again { deliveries: if trust_counts { before.saturating_add(1) } else { 1 } }
        };
        self.entries(count, None, &Asked { at, origin: &origin }, deliver)
    }

    /// Takes over entries that some consumer has held for longer than `idle` and delivers them.
    /// Entries of this process that are still in work are left alone.
    ///
    /// One whose body has been trimmed is delivered without. It is lost even if its former owner
    /// has the frame in hand and is only slow, for Redis 7 has ended it: that one's commit is then
    /// fenced off.
    ///
    /// # Errors
    /// As [`Source::receive`].
    pub fn claim_stale(
        &mut self,
        idle: Duration,
        deliver: &mut Deliver<'_>,
    ) -> Result<Delivered, Fault> {
        let at = Tick::now();
        let options = Arc::clone(&self.options);
        self.request.clear();
        self.request.command(8).arg("XPENDING").arg(&options.stream).arg(&options.group);
        self.request.arg("IDLE").number(idle.as_millis()).arg("-").arg("+");
        self.request.number(limits::CLAIM_BATCH);
        self.connection.send(&self.request, &[])?;
        let mut stale = HashMap::with_capacity(limits::CLAIM_BATCH);
        self.pending_list(&mut stale)?;
        let mut ids: Vec<EntryId> = stale.into_keys().collect();
        ids.retain(|id| !self.journal.holds(*id));
        if ids.is_empty() {
            return Ok(Delivered::Nothing);
        }
        ids.sort_unstable();

        let deliveries = self.claim_in_one_step(&ids, idle)?;
        let count = self.connection.array("XCLAIM")?.unwrap_or(0);
        let mut returned = Vec::with_capacity(ids.len());
        let origin = |id: EntryId| Origin::Again {
            deliveries: deliveries.get(&id).copied().unwrap_or(0).saturating_add(1),
        };
        let asked = Asked { at, origin: &origin };
        let delivered = self.entries(count, None, &asked, &mut |frame| {
            returned.push(frame.receipt.id());
            deliver(frame)
        })?;
        for id in ids {
            // Stale at that moment, and not handed over: its body is gone. Redis 7 has dropped it
            // from the pending list without a word. Others were ended or renewed in between.
            if deliveries.contains_key(&id)
                && !returned.contains(&id)
                && let Some(receipt) = self.journal.open(id, origin(id), at)
            {
                deliver(RawFrame { receipt, entry: None, shard: options.shard })?;
            }
        }
        Ok(delivered)
    }

    /// Looks at each entry once more and takes all of them over, as one transaction: nobody can
    /// end one of them between the look and the claim. The deliveries of those still stale; the
    /// answer to XCLAIM comes next on the connection.
    fn claim_in_one_step(
        &mut self,
        ids: &[EntryId],
        idle: Duration,
    ) -> Result<HashMap<EntryId, u32>, Fault> {
        let options = Arc::clone(&self.options);
        self.request.clear();
        self.request.multi();
        for id in ids {
            self.request.command(8).arg("XPENDING").arg(&options.stream).arg(&options.group);
            self.request.arg("IDLE").number(idle.as_millis()).number(id).number(id).arg("1");
        }
        self.request.command(5 + ids.len()).arg("XCLAIM").arg(&options.stream);
        self.request.arg(&options.group).arg(&options.consumer).number(idle.as_millis());
        for id in ids {
            self.request.number(id);
        }
        self.request.exec();
        self.connection.send(&self.request, &[])?;
        for _ in 0..ids.len() + 2 {
            self.connection.skip_answer()?; // OK and QUEUED; EXEC repeats what was wrong
        }
        if self.connection.array("EXEC")? != Some(ids.len() + 1) {
            return Err(self.connection.surprised());
        }
        let mut deliveries = HashMap::with_capacity(ids.len());
        for _ in ids {
            self.pending_list(&mut deliveries)?;
        }
        Ok(deliveries)
    }

    /// The answer of XPENDING in its long form: adds the deliveries of each entry.
    fn pending_list(&mut self, deliveries: &mut HashMap<EntryId, u32>) -> Result<(), Fault> {
        for _ in 0..self.connection.array("XPENDING")?.unwrap_or(0) {
            if self.connection.array("XPENDING")? != Some(4) {
                return Err(self.connection.surprised());
            }
            let id = self.connection.small_text()?;
            let consumer_len = self.connection.bulk()?;
            self.connection.pass_over(consumer_len)?;
            self.connection.integer()?;
            let times = self.connection.integer()?;
            if let Some(id) = EntryId::parse(&id) {
                deliveries.insert(id, u32::try_from(times).unwrap_or(u32::MAX));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use redis::cmd;

    use super::*;
    use crate::base::Stop;
    use crate::frame::{Journal, Pool};
    use crate::metrics::{Metrics, Outcome};
    use crate::redis::{Control, Embedded, Operation, Seam, SourceOptions};

    const LIMIT: Duration = Duration::from_secs(30);

    /// Takes over one entry of a dead consumer, to which `meanwhile` happens after it was found
    /// stale and before it is claimed. The frames delivered: whether each had a body.
    fn claim(meanwhile: &'static [&'static [&'static str]]) -> Vec<bool> {
        let stop = Stop::default();
        let server = Embedded::start(&stop).unwrap();
        let address = server.address().clone();
        let mut control = Control::new(&address, LIMIT).unwrap();
        let mut run = move |words: &[&str]| {
            let mut command = cmd(words[0]);
            words[1..].iter().for_each(|word| {
                command.arg(*word);
            });
            control.run::<redis::Value>("test", &command).unwrap();
        };
        run(&["XADD", "in", "1-1", "data", "x"]);
        run(&["XGROUP", "CREATE", "in", "group", "0"]);
        run(&["XREADGROUP", "GROUP", "group", "dead", "STREAMS", "in", ">"]);

        let (metrics, writes) = (Metrics::new(), AtomicUsize::new(0));
        let run = parking_lot::Mutex::new(run);
        let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_armed = Arc::clone(&armed);
        let seam = Seam::new(move |operation| {
            let counts = operation == Operation::Write && is_armed.load(Ordering::SeqCst);
            if counts && writes.fetch_add(1, Ordering::SeqCst) == 1 {
                meanwhile.iter().for_each(|words| run.lock()(words));
            }
            Ok(())
        });
        let options = Arc::new(SourceOptions {
            stream: "in".into(),
            shard: 0,
            group: "group".into(),
            consumer: "ours".into(),
            block: Duration::from_millis(100),
            timeout: LIMIT,
            payload_bytes_max: 1000,
            locate_picture: |_, _| None,
        });
        let journal = Journal::new(Arc::clone(&metrics));
        let (pool, recorder) = (Pool::new(1 << 20), metrics.recorder());
        let address = address.through(seam);
        let mut source =
            Source::open(&address, &options, &journal, &pool, &metrics, &recorder, &stop).unwrap();
        armed.store(true, Ordering::SeqCst);
        let mut bodies = Vec::new();
        let taken = source.claim_stale(Duration::ZERO, &mut |frame| {
            bodies.push(frame.entry.is_some());
            frame.receipt.close(Outcome::Out);
            Ok(())
        });
        taken.unwrap();
        bodies
    }

    #[test]
    fn a_stale_entry_is_taken_over() {
        assert_eq!(claim(&[]), [true]);
    }

    #[test]
    fn an_entry_that_has_lost_its_body_is_delivered_without_one() {
        assert_eq!(claim(&[&["XDEL", "in", "1-1"]]), [false]);
    }

    #[test]
    fn an_entry_ended_and_deleted_in_between_is_not_taken_for_lost() {
        let ended: &[&[&str]] = &[&["XACK", "in", "group", "1-1"], &["XDEL", "in", "1-1"]];
        assert!(claim(ended).is_empty());
    }
}
