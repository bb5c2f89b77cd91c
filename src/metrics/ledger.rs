//! Conservation: every frame that was read is accounted for.
//!
//! `read = out + rejected + dead_lettered + shed + lost + handed_over + in_flight` holds at every
//! moment. Both sides change under one lock, so a reader never sees a frame counted twice or not at
//! all.

use parking_lot::Mutex;

/// How one frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its result is in the output stream.
    Out,
    /// Refused and acknowledged without a dead letter: the dead-letter stream is switched off, or
    /// the frame was below the quality threshold and configured to be dropped.
    Rejected,
    /// In the dead-letter stream.
    DeadLettered,
    /// Too old to be worth the work; acknowledged without output.
    Shed,
    /// Its body was trimmed from the stream before it was read; acknowledged.
    LostToTrim,
    /// Its slot in a frame ring was overwritten before it was read; acknowledged.
    Overwritten,
    /// Another engine had already acknowledged it. Its result counts, and the one of this engine
    /// was discarded.
    Superseded,
    /// The consumer group was lost, and the entry was not in the stream when the group was
    /// restored.
    LostWithGroup,
    /// In hand when the lease of its stream was lost. It is still pending in Redis for the next
    /// holder, or it was stored and Redis' answer was lost with the lease.
    HandedOver,
    /// Given up by this process without acknowledgement. It is still pending in Redis and will be
    /// delivered again.
    Abandoned,
}

/// The account of all frames of an engine at one moment, in entries:
/// `read = out + rejected + dead_lettered + shed + lost + handed_over + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Conservation {
    /// Entries taken from the input stream.
    pub read: u64,
    /// Results stored.
    pub out: u64,
    /// Acknowledged without output or dead letter.
    pub rejected: u64,
    /// Dead letters stored.
    pub dead_lettered: u64,
    /// Dropped for age.
    pub shed: u64,
    /// `lost_to_trim + overwritten + superseded + lost_with_group + abandoned`. A superseded frame has
    /// its result from another engine, and an abandoned one is delivered again.
    pub lost: u64,
    /// Bodies trimmed away before they were read.
    pub lost_to_trim: u64,
    /// Pixels overwritten in their frame ring before they were read.
    pub overwritten: u64,
    /// Finished first by another engine.
    pub superseded: u64,
    /// Gone from the stream when their consumer group was lost.
    pub lost_with_group: u64,
    /// Left pending in Redis by this process.
    pub abandoned: u64,
    /// In hand when the lease of their stream was lost; left to the next holder.
    pub handed_over: u64,
    /// In this process now.
    pub in_flight: u64,
    /// Whether the equation holds: the account is complete. What was lost is in `lost`.
    pub balanced: bool,
}

/// The account of all frames of one engine.
#[derive(Debug, Default)]
pub struct Ledger {
    account: Mutex<Conservation>,
}

impl Ledger {
    /// Counts a frame that has been read.
    pub fn open(&self) {
        let mut account = self.account.lock();
        account.read += 1;
        account.in_flight += 1;
    }

    /// Counts the end of a frame that was read.
    pub fn close(&self, outcome: Outcome) {
        let mut account = self.account.lock();
        account.in_flight = account.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Out => account.out += 1,
            Outcome::Rejected => account.rejected += 1,
            Outcome::DeadLettered => account.dead_lettered += 1,
            Outcome::Shed => account.shed += 1,
            Outcome::LostToTrim => account.lost_to_trim += 1,
            Outcome::Overwritten => account.overwritten += 1,
            Outcome::Superseded => account.superseded += 1,
            Outcome::LostWithGroup => account.lost_with_group += 1,
            Outcome::HandedOver => account.handed_over += 1,
            Outcome::Abandoned => account.abandoned += 1,
        }
    }

    /// The current account.
    pub fn read(&self) -> Conservation {
        let mut account = *self.account.lock();
        account.lost = account.lost_to_trim
            + account.overwritten
            + account.superseded
            + account.lost_with_group
            + account.abandoned;
        account.balanced = account.read
            == account.out
                + account.rejected
                + account.dead_lettered
                + account.shed
                + account.lost
                + account.handed_over
                + account.in_flight;
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_holds_after_every_step_and_notices_a_double_close() {
        let ledger = Ledger::default();
        for outcome in [Outcome::Out, Outcome::Shed, Outcome::Superseded, Outcome::DeadLettered] {
            ledger.open();
            assert!(ledger.read().balanced);
            ledger.close(outcome);
            assert!(ledger.read().balanced);
        }
        assert_eq!(ledger.read().lost, 1);
        ledger.close(Outcome::Out);
        assert!(!ledger.read().balanced);
    }
}
