//! Fetches entries that were delivered before, to this consumer or another, and never acknowledged.
//! All cases take the same steps: list a page of the pending entries list, leave out what this
//! process holds, claim the rest, and read the bodies one by one.
//!
//! Each reply holds one body. Redis queues whole replies, so no more replies are requested at a
//! time than [`limits::REPLY_BYTES_MAX`] allows.

use std::sync::Arc;
use std::time::Duration;

use super::source::{Batch, Deliver, StreamSource};
use crate::base::{Fault, limits};
use crate::frame::{Body, EntryId, EntryOrigin, Opened, RawFrame, Session};

const CLAIM: &str = concat!(
    "local LEASE = 2\n",
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/claim.lua")
);

/// Whose pending entries are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// This consumer's own.
    Own {
        /// Whether a former process with this consumer's name left them. An entry may have crashed
        /// that process, so the new attempt counts as a delivery. Otherwise they were lost with a
        /// connection before an attempt was made.
        is_left: bool,
    },
    /// Those of any consumer in id order: the holder of a new lease begins with these.
    All {
        /// As in [`Pending::Own`]; for this consumer's entries.
        is_left: bool,
        /// Whether the last holder of the lease is alive, so that no entry crashed it.
        is_handed: bool,
    },
    /// Those of any consumer that have been idle for at least this long.
    Stale(Duration),
}

/// An entry claimed for this consumer.
#[derive(Clone, Copy, Debug)]
struct Claimed {
    id: EntryId,
    deliveries: u32,
    is_own: bool,
}

/// A page of the pending entries list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries delivered.
    pub batch: Batch,
    /// Its last entry; `None` if the list has no entry after `after`.
    pub last: Option<EntryId>,
}

impl StreamSource {
    /// Delivers one page of the pending entries after `after`. Entries that this process holds are
    /// left alone. `largest` is the size of the largest body in bytes, 0 if unknown.
    ///
    /// An entry whose body has been trimmed is delivered without it. Redis 7 ends such an entry
    /// when it is claimed. If its former owner is only slow and still processes the frame, the
    /// fence then refuses the owner's commit, and the frame is lost.
    ///
    /// # Errors
    /// As [`StreamSource::receive`].
    pub fn pending(
        &mut self,
        which: Pending,
        after: EntryId,
        largest: u64,
        deliver: &mut Deliver<'_>,
    ) -> Result<Page, Fault> {
        let session = self.asked_now();
        let listed = self.list(which, after)?;
        let last = listed.last().copied();
        let mut ids = listed;
        ids.retain(|id| !self.journal.holds(*id));
        let mut batch = Batch::default();
        if ids.is_empty() {
            return Ok(Page { batch, last });
        }
        let claimed = self.make_ours(which, &ids)?;
        self.journal.leave(self.options.reader, claimed.iter().map(|claimed| claimed.id));
        let mut asked = 0;
        for (index, &Claimed { id, deliveries, is_own }) in claimed.iter().enumerate() {
            let largest = largest.max(batch.largest);
            let window = limits::REPLY_BYTES_MAX.checked_div(largest).unwrap_or(1).max(1);
            let until =
                claimed.len().min(index.saturating_add(usize::try_from(window).unwrap_or(1)));
            if asked < until {
                self.request.clear();
                for Claimed { id, .. } in &claimed[asked..until] {
                    self.request.command(4).arg("XRANGE").arg(&self.options.stream);
                    self.request.number(id).number(id);
                }
                self.connection.send(&self.request, &[])?;
                asked = until;
            }
            let origin = match which {
                Pending::Own { is_left: true } | Pending::All { is_left: true, .. } if is_own => {
                    EntryOrigin::Again {
                        deliveries: deliveries.saturating_add(1),
                        is_counted: false,
                    }
                }
                _ => EntryOrigin::Again { deliveries, is_counted: true },
            };
            let delivered = match self.connection.array("XRANGE")? {
                Some(1) => self.one_entry(session, &|_| origin, deliver)?,
                Some(0) => self.bodiless(id, origin, session, deliver)?,
                _ => return Err(self.connection.surprised()),
            };
            batch = batch.and(delivered);
        }
        Ok(Page { batch, last })
    }

    /// Delivers an entry without its body.
    fn bodiless(
        &mut self,
        id: EntryId,
        origin: EntryOrigin,
        session: Session,
        deliver: &mut Deliver<'_>,
    ) -> Result<Batch, Fault> {
        let Opened::Taken(receipt) = self.journal.open(id, origin, session) else {
            return Ok(Batch::default());
        };
        deliver(RawFrame { receipt, body: Body::Trimmed, shard: self.options.shard })?;
        Ok(Batch { taken: 1, last: id, ..Batch::default() })
    }

    /// Lists the ids of a page in order.
    fn list(&mut self, which: Pending, after: EntryId) -> Result<Vec<EntryId>, Fault> {
        let options = Arc::clone(&self.options);
        let own = matches!(which, Pending::Own { .. });
        self.request.clear();
        self.request.command(match which {
            Pending::Own { .. } => 7,
            Pending::All { .. } => 6,
            Pending::Stale(_) => 8,
        });
        self.request.arg("XPENDING").arg(&options.stream).arg(&options.group);
        if let Pending::Stale(idle) = which {
            self.request.arg("IDLE").number(idle.as_millis());
        }
        self.request.arg(format!("({after}")).arg("+").number(limits::PENDING_PAGE);
        if own {
            self.request.arg(&options.consumer);
        }
        self.connection.send(&self.request, &[])?;
        let mut ids = Vec::with_capacity(limits::PENDING_PAGE);
        for _ in 0..self.connection.array("XPENDING")?.unwrap_or(0) {
            if self.connection.array("XPENDING")? != Some(4) {
                return Err(self.connection.surprised());
            }
            ids.extend(EntryId::parse(&self.connection.small_text()?));
            let consumer_len = self.connection.bulk()?;
            self.connection.pass_over(consumer_len)?;
            self.connection.integer()?;
            self.connection.integer()?;
        }
        Ok(ids)
    }

    /// Claims entries for this consumer; the script checks each again. Returns the claimed ones
    /// with their delivery counts.
    fn make_ours(&mut self, which: Pending, ids: &[EntryId]) -> Result<Vec<Claimed>, Fault> {
        let options = Arc::clone(&self.options);
        self.request.clear();
        let keys = self.keys();
        self.request.command(6 + keys.len() + ids.len()).arg("EVAL").arg(CLAIM);
        self.request.number(keys.len());
        keys.iter().for_each(|key| {
            self.request.arg(key);
        });
        self.request.arg(&options.group).arg(&options.consumer);
        match which {
            Pending::Own { .. } => self.request.arg("own"),
            Pending::All { is_handed: false, .. } => self.request.arg("all"),
            Pending::All { is_handed: true, .. } => self.request.arg("handed"),
            Pending::Stale(idle) => self.request.number(idle.as_millis()),
        };
        for id in ids {
            self.request.number(id);
        }
        self.connection.send(&self.request, &[])?;
        let mut ours = Vec::with_capacity(ids.len());
        for _ in 0..self.connection.array("XCLAIM")?.unwrap_or(0) {
            if self.connection.array("XCLAIM")? != Some(3) {
                return Err(self.connection.surprised());
            }
            let id = self.connection.small_text()?;
            let times = self.connection.integer()?;
            let is_own = self.connection.integer()? == 1;
            if let Some(id) = EntryId::parse(&id) {
                let deliveries = u32::try_from(times).unwrap_or(u32::MAX);
                ours.push(Claimed { id, deliveries, is_own });
            }
        }
        Ok(ours)
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
    use crate::redis::{Control, Embedded, FaultPoint, Operation, SourceOptions};

    const LIMIT: Duration = Duration::from_secs(30);

    /// Takes over one entry of a dead consumer. Runs `meanwhile` after the entry was found stale
    /// and before it is claimed. Returns, for each delivered frame, whether it had a body.
    fn claim(meanwhile: &'static [&'static [&'static str]]) -> Vec<bool> {
        let stop = Stop::default();
        let server = Embedded::start(&stop).unwrap();
        let address = server.address().clone();
        let mut control = Control::new(&address, LIMIT);
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
        let fault_point = FaultPoint::new(move |operation| {
            let counts = operation == Operation::Write && is_armed.load(Ordering::SeqCst);
            if counts && writes.fetch_add(1, Ordering::SeqCst) == 1 {
                meanwhile.iter().for_each(|words| run.lock()(words));
            }
            Ok(())
        });
        let options = Arc::new(SourceOptions {
            stream: "in".into(),
            shard: 0,
            reader: 0,
            group: "group".into(),
            consumer: "ours".into(),
            block: Duration::from_millis(100),
            timeout: LIMIT,
            payload_bytes_max: 1000,
            locate_picture: |_, _| None,
        });
        let journal = Journal::new(1, Arc::clone(&metrics));
        let (pool, recorder) = (Pool::new(1 << 20), metrics.recorder());
        let address = address.through(fault_point);
        let mut source =
            StreamSource::open(&address, &options, &journal, &pool, &metrics, &recorder, &stop)
                .unwrap();
        armed.store(true, Ordering::SeqCst);
        let mut bodies = Vec::new();
        let stale = Pending::Stale(Duration::ZERO);
        let taken = source.pending(stale, EntryId::default(), 0, &mut |frame| {
            bodies.push(frame.body.fields().is_some());
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
