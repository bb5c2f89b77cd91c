//! Takes new entries that are too old to be worth transferring: they become pending, and their
//! bodies stay at the server. Without this, a link with less capacity than the input rate would
//! only carry frames that are shed on arrival.

use std::time::Duration;

use super::source::{Batch, Deliver, StreamSource};
use crate::base::{Fault, limits};
use crate::frame::{Body, EntryBuilder, EntryId, EntryOrigin, Opened, RawFrame};

const STALE: &str = concat!(
    "local LEASE = 2\n",
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/stale.lua")
);

/// Maximum number of entries per request: the script looks at each of them twice.
const STALE_MAX: usize = 64;

/// Maximum bytes of `data` that are kept to find its camera; the script sends fewer.
const HEAD_BYTES_MAX: usize = 1 << 10;

impl StreamSource {
    /// Requests the new entries that were added longer than `age` ago, with only the first bytes of
    /// their `data`, after what was requested before. Their frames have [`Body::Stale`].
    ///
    /// # Errors
    /// [`Fault::Connection`].
    pub fn request_stale(&mut self, age: Duration) -> Result<(), Fault> {
        let options = &self.options;
        self.request.clear();
        let keys = self.keys();
        self.request.command(7 + keys.len()).arg("EVAL").arg(STALE).number(keys.len());
        keys.iter().for_each(|key| {
            self.request.arg(key);
        });
        self.request.arg(&options.group).arg(&options.consumer);
        self.request.number(age.as_millis()).number(STALE_MAX);
        self.send_request(0, true)
    }

    /// Reads the reply and delivers each entry.
    pub(super) fn stale_reply(&mut self, deliver: &mut Deliver<'_>) -> Result<Batch, Fault> {
        let session = self.asked_now();
        let mut batch = Batch::default();
        for _ in 0..self.connection.array("EVAL")?.unwrap_or(0) / 3 {
            let Some(id) = EntryId::parse(&self.connection.small_text()?) else {
                return Err(self.connection.surprised());
            };
            let len = self.connection.bulk()?;
            let Some(side) = self.lease_side() else { return Err(super::source::left()) };
            let mut builder = EntryBuilder::new(side);
            let size = usize::try_from(len).ok().filter(|len| *len <= limits::ID_BYTES_MAX);
            match size.and_then(|size| builder.side_room(b"camera_id", size)) {
                Some(room) => self.connection.read_into(room)?,
                None => self.connection.pass_over(len)?,
            }
            let len = self.connection.bulk()?;
            let size = usize::try_from(len).unwrap_or(usize::MAX).min(HEAD_BYTES_MAX);
            let Some(mut head) = self.pool.lease(size, &self.stop) else {
                return Err(super::source::left());
            };
            self.connection.read_into(&mut head)?;
            builder.set_data(head, None);
            let receipt = match self.journal.open(id, EntryOrigin::New, session) {
                Opened::Taken(receipt) => receipt,
                Opened::Known => continue,
                Opened::Void => return Err(self.void()),
            };
            let body = Body::Stale(builder.build());
            deliver(RawFrame { receipt, body, shard: self.options.shard })?;
            batch = batch.and(Batch { taken: 1, last: id, ..Batch::default() });
        }
        Ok(batch)
    }
}
