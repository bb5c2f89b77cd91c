//! Reads the parts of a reply, one function each; errors become the connection's faults.

use smallvec::SmallVec;

use super::connection::{Connection, text};
use super::resp::{RespHeader, Trouble};
use crate::base::Fault;
use crate::frame::{Digest, Digester, Locate};
use crate::metrics::Counter;

/// A short value that is kept on the stack.
pub(super) type SmallText = SmallVec<[u8; 64]>;

impl Connection {
    /// Reads the header of an array: its length, or `None` for nil.
    ///
    /// # Errors
    /// [`Fault::Refused`] if the server answered `command` with an error.
    pub(in crate::redis) fn array(
        &mut self,
        command: &'static str,
    ) -> Result<Option<usize>, Fault> {
        match self.reader.header(&mut self.socket) {
            Ok(RespHeader::Array(count)) => Ok(Some(count)),
            Ok(RespHeader::Nil) => Ok(None),
            Ok(RespHeader::Error(message)) => {
                let message = text(message);
                Err(self.refused(command, message))
            }
            Ok(_) => Err(self.surprised()),
            Err(trouble) => Err(self.fault(trouble)),
        }
    }

    /// Reads the header of a bulk string: its length in bytes.
    pub(in crate::redis) fn bulk(&mut self) -> Result<u64, Fault> {
        match self.reader.header(&mut self.socket) {
            Ok(RespHeader::Bulk(len)) => Ok(len),
            Ok(_) => Err(self.surprised()),
            Err(trouble) => Err(self.fault(trouble)),
        }
    }

    pub(in crate::redis) fn integer(&mut self) -> Result<i64, Fault> {
        match self.reader.header(&mut self.socket) {
            Ok(RespHeader::Int(number)) => Ok(number),
            Ok(_) => Err(self.surprised()),
            Err(trouble) => Err(self.fault(trouble)),
        }
    }

    /// Reads a whole short bulk string.
    pub(in crate::redis) fn small_text(&mut self) -> Result<SmallText, Fault> {
        let len = self.bulk()?;
        match self.reader.bulk_small(&mut self.socket, len) {
            Ok(bytes) => Ok(SmallText::from_slice(bytes)),
            Err(trouble) => Err(self.fault(trouble)),
        }
    }

    /// Skips the bytes of a bulk string whose length has been read.
    pub(in crate::redis) fn pass_over(&mut self, len: u64) -> Result<(), Fault> {
        let passed = self.reader.bulk_discard(&mut self.socket, len);
        passed.map_err(|trouble| self.fault(trouble))
    }

    /// Reads the bytes of a bulk string whose length has been read.
    pub(in crate::redis) fn read_into(&mut self, target: &mut [u8]) -> Result<(), Fault> {
        let read = self.reader.bulk_into(&mut self.socket, target);
        read.map_err(|trouble| self.fault(trouble))
    }

    /// The same, and computes the digest of the image in it.
    pub(in crate::redis) fn read_with_digest(
        &mut self,
        target: &mut [u8],
        locate: Locate,
    ) -> Result<Option<Digest>, Fault> {
        let mut digester = Digester::new(target.len(), locate);
        let arrived = |so_far: &[u8]| digester.arrived(so_far);
        let read = self.reader.bulk_into_watched(&mut self.socket, target, arrived);
        read.map_err(|trouble| self.fault(trouble))?;
        Ok(digester.finish())
    }

    /// Skips one whole value of any type.
    pub(super) fn skip_answer(&mut self) -> Result<(), Fault> {
        let skipped = self.reader.skip_value(&mut self.socket);
        skipped.map(|_| ()).map_err(|trouble| self.fault(trouble))
    }

    /// Reads the answer to WAIT for `wanted` replicas. Fewer replicas are only counted: the write
    /// is done and cannot be undone.
    pub(in crate::redis) fn receive_acks(&mut self, wanted: u32) -> Result<(), Fault> {
        if self.integer()? < i64::from(wanted) {
            self.count(Counter::ReplicaAcksMissing);
        }
        Ok(())
    }

    pub(in crate::redis) fn surprised(&self) -> Fault {
        self.fault(Trouble::Protocol("unexpected shape of an answer"))
    }
}
