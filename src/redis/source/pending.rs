//! Entries that were delivered before and never acknowledged: our own, and those of others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Deliver, Delivered, Source};
use crate::base::{Fault, limits};
use crate::frame::{EntryId, Origin, RawFrame};

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
        let options = Arc::clone(&self.options);
        self.request.clear();
        self.request.command(7).arg("XPENDING").arg(&options.stream).arg(&options.group);
        self.request.arg(format!("({after}")).arg("+").number(count).arg(&options.consumer);
        self.connection.send(&self.request, &[])?;
        let deliveries = self.pending_list()?;

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
        self.entries(count, None, &origin, deliver)
    }

    /// Takes over entries that some consumer has held for longer than `idle` and delivers them.
    /// Entries of this process that are still in work are left alone.
    ///
    /// # Errors
    /// As [`Source::receive`].
    pub fn claim_stale(
        &mut self,
        idle: Duration,
        deliver: &mut Deliver<'_>,
    ) -> Result<Delivered, Fault> {
        let options = Arc::clone(&self.options);
        self.request.clear();
        self.request.command(8).arg("XPENDING").arg(&options.stream).arg(&options.group);
        self.request.arg("IDLE").number(idle.as_millis()).arg("-").arg("+");
        self.request.number(limits::CLAIM_BATCH);
        self.connection.send(&self.request, &[])?;
        let mut deliveries = self.pending_list()?;
        deliveries.retain(|id, _| !self.journal.holds(*id));
        if deliveries.is_empty() {
            return Ok(Delivered::Nothing);
        }
        let mut ids: Vec<EntryId> = deliveries.keys().copied().collect();
        ids.sort_unstable();

        self.request.clear();
        self.request.command(5 + ids.len()).arg("XCLAIM").arg(&options.stream);
        self.request.arg(&options.group).arg(&options.consumer).number(idle.as_millis());
        for id in &ids {
            self.request.number(id);
        }
        self.connection.send(&self.request, &[])?;
        let Some(count) = self.array("XCLAIM")? else { return Ok(Delivered::Nothing) };
        let mut returned = Vec::with_capacity(ids.len());
        let origin = |id: EntryId| Origin::Again {
            deliveries: deliveries.get(&id).copied().unwrap_or(0).saturating_add(1),
        };
        let delivered = self.entries(count, None, &origin, &mut |frame| {
            returned.push(frame.receipt.id());
            deliver(frame)
        })?;
        ids.retain(|id| !returned.contains(id));
        self.report_bodiless(&ids, deliver)?;
        Ok(delivered)
    }

    /// Of entries that XCLAIM did not return, those whose body is gone: since Redis 7 it drops
    /// them from the pending list without a word.
    fn report_bodiless(&mut self, ids: &[EntryId], deliver: &mut Deliver<'_>) -> Result<(), Fault> {
        for &id in ids {
            let text = id.to_string();
            let options = Arc::clone(&self.options);
            let args = [options.stream.as_bytes(), text.as_bytes(), text.as_bytes()];
            if self.array_length("XRANGE", &args)? > 0 {
                continue; // taken by another engine, or acknowledged, in the meantime
            }
            if let Some(receipt) = self.journal.open(id, Origin::Again { deliveries: 1 }) {
                deliver(RawFrame { receipt, entry: None, shard: options.shard })?;
            }
        }
        Ok(())
    }

    /// Resets the idle time of our entries in work, so that nobody takes them over.
    ///
    /// # Errors
    /// As [`Source::receive`].
    pub fn renew(&mut self, ids: &[EntryId]) -> Result<(), Fault> {
        let options = Arc::clone(&self.options);
        self.request.clear();
        self.request.command(6 + ids.len()).arg("XCLAIM").arg(&options.stream);
        self.request.arg(&options.group).arg(&options.consumer).arg("0");
        for id in ids {
            self.request.number(id);
        }
        self.request.arg("JUSTID");
        self.connection.send(&self.request, &[])?;
        self.skip_answer("XCLAIM")
    }

    /// The answer of XPENDING in its long form: deliveries by entry.
    fn pending_list(&mut self) -> Result<HashMap<EntryId, u32>, Fault> {
        let count = self.array("XPENDING")?.unwrap_or(0);
        let mut deliveries = HashMap::with_capacity(count.min(limits::BATCH_SIZE_MAX));
        for _ in 0..count {
            if self.array("XPENDING")? != Some(4) {
                return Err(self.surprised());
            }
            let id = self.small_text()?;
            let consumer_len = self.bulk()?;
            self.pass_over(consumer_len)?;
            self.integer()?;
            let times = self.integer()?;
            if let Some(id) = EntryId::parse(&id) {
                deliveries.insert(id, u32::try_from(times).unwrap_or(u32::MAX));
            }
        }
        Ok(deliveries)
    }

    fn array_length(&mut self, name: &'static str, args: &[&[u8]]) -> Result<usize, Fault> {
        self.request.clear();
        self.request.command(1 + args.len()).arg(name);
        for arg in args {
            self.request.arg(arg);
        }
        self.connection.send(&self.request, &[])?;
        let count = self.array(name)?.unwrap_or(0);
        for _ in 0..count {
            self.skip_answer(name)?;
        }
        Ok(count)
    }
}
