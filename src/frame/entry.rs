//! A stream entry as it was read: its id, its `data`, and its other fields.

use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;

use super::Lease;
use super::digest::{self, Digest};
use crate::base::Reject;

/// The id of a stream entry: milliseconds since the Unix epoch on the Redis clock, and a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch.
    pub millis: u64,
    /// Number of the entry within its millisecond.
    pub sequence: u64,
}

impl EntryId {
    /// Reads `millis-sequence`.
    pub fn parse(text: &[u8]) -> Option<EntryId> {
        let text = std::str::from_utf8(text).ok()?;
        let (millis, sequence) = text.split_once('-')?;
        Some(EntryId { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
    }

    /// The least id above this one.
    #[must_use]
    #[doc(hidden)]
    pub fn next(self) -> EntryId {
        match self.sequence.checked_add(1) {
            Some(sequence) => EntryId { sequence, ..self },
            None => EntryId { millis: self.millis.saturating_add(1), sequence: 0 },
        }
    }

    /// The id just below this one; 0-0 stays.
    #[must_use]
    #[doc(hidden)]
    pub fn before(self) -> EntryId {
        match (self.sequence.checked_sub(1), self.millis.checked_sub(1)) {
            (Some(sequence), _) => EntryId { sequence, ..self },
            (None, Some(millis)) => EntryId { millis, sequence: u64::MAX },
            (None, None) => self,
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

pub(super) type Span = Range<u32>;

/// The contents of an entry. The value of `data` has a separate buffer; all other fields share one.
#[derive(Debug)]
pub struct Entry {
    data: Option<Lease>,
    digest: Option<Digest>,
    side: Lease,
    side_len: usize,
    fields: SmallVec<[(Span, Span); 8]>,
    /// Length of a `data` that was too long to be read, in bytes.
    pub oversized: Option<u64>,
    /// The outcome for the pixels, if they lie in a frame ring.
    pub ring: Option<RingPixels>,
}

/// The pixels of a frame that lie in a frame ring.
#[derive(Debug)]
pub enum RingPixels {
    /// They have been copied.
    Here {
        /// A copy.
        pixels: Lease,
        /// Their XXH3-64.
        hash: u64,
    },
    /// Their slot in the ring already holds another frame.
    Overwritten,
    /// They cannot be read; the reject says why.
    Refused(Reject),
}

impl Entry {
    /// The value of `data`, if the entry has it and it was within the limits.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// Bytes of `data` as received, kept or not.
    pub fn len(&self) -> u64 {
        self.oversized.unwrap_or_else(|| self.data().map_or(0, |data| data.len() as u64))
    }

    /// Whether there is no `data`, or an empty one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// XXH3 of a part of [`data`](Entry::data), or of any other bytes. Costs nothing if it was
    /// computed when they arrived.
    pub fn hash_of(&self, bytes: &[u8]) -> u64 {
        if let Some(RingPixels::Here { pixels, hash }) = &self.ring
            && std::ptr::eq(&raw const pixels[..], bytes)
        {
            return *hash;
        }
        let taken = self.digest.as_ref().zip(self.data());
        let known = taken.and_then(|(digest, data)| digest.of_part(data, bytes));
        known.unwrap_or_else(|| digest::hash_of(bytes))
    }

    /// The copy of its pixels, if they lie in a frame ring.
    pub fn ring_pixels(&self) -> Option<&[u8]> {
        match &self.ring {
            Some(RingPixels::Here { pixels, .. }) => Some(pixels),
            _ => None,
        }
    }

    /// The value of another field than `data`; the first one with this name.
    pub fn side(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.iter().find(|(key, _)| self.at(key) == name).map(|(_, value)| self.at(value))
    }

    /// The same, if it is UTF-8 and not empty.
    pub fn side_text(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(self.side(name.as_bytes())?).ok()?;
        (!text.is_empty()).then_some(text)
    }

    fn at(&self, span: &Span) -> &[u8] {
        &self.side[span.start as usize..span.end as usize]
    }
}

/// Builds an entry field by field.
#[derive(Debug)]
pub struct EntryBuilder {
    entry: Entry,
}

impl EntryBuilder {
    /// An entry without fields; `side` holds all fields but `data`.
    pub fn new(side: Lease) -> Self {
        EntryBuilder {
            entry: Entry {
                data: None,
                digest: None,
                side,
                side_len: 0,
                fields: SmallVec::new(),
                oversized: None,
                ring: None,
            },
        }
    }

    /// Whether `data` was seen.
    pub fn has_data(&self) -> bool {
        self.entry.data.is_some() || self.entry.oversized.is_some()
    }

    /// Sets `data`, with the digest of its picture if one was made of these bytes.
    pub fn set_data(&mut self, data: Lease, digest: Option<Digest>) {
        self.entry.data = Some(data);
        self.entry.digest = digest;
    }

    /// Notes that `data` was longer than allowed.
    pub fn set_oversized(&mut self, len: u64) {
        self.entry.oversized = Some(len);
    }

    /// Whether a field would fit into the side buffer.
    pub fn has_room(&self, name: &[u8], value_len: usize) -> bool {
        self.entry.side.len() - self.entry.side_len >= name.len().saturating_add(value_len)
    }

    /// Continues in another side buffer, if it is larger than the current one.
    pub fn move_side(&mut self, mut side: Lease) {
        let used = self.entry.side_len;
        if side.len() > self.entry.side.len() {
            side[..used].copy_from_slice(&self.entry.side[..used]);
            self.entry.side = side;
        }
    }

    /// Room for a field other than `data`, to be filled by the caller; `None` if it does not fit
    /// into the side buffer.
    pub fn side_room(&mut self, name: &[u8], value_len: usize) -> Option<&mut [u8]> {
        let start = self.entry.side_len;
        let middle = start.checked_add(name.len())?;
        let end = middle.checked_add(value_len)?;
        if end > self.entry.side.len() {
            return None;
        }
        let spans = (span(start, middle)?, span(middle, end)?);
        self.entry.side[start..middle].copy_from_slice(name);
        self.entry.fields.push(spans);
        self.entry.side_len = end;
        Some(&mut self.entry.side[middle..end])
    }

    /// The finished entry.
    pub fn build(self) -> Entry {
        self.entry
    }
}

fn span(start: usize, end: usize) -> Option<Span> {
    Some(u32::try_from(start).ok()?..u32::try_from(end).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Digester, Pool};

    #[test]
    fn ids_survive_a_round_trip_and_nonsense_is_refused() {
        let id = EntryId::parse(b"1700000000123-7").unwrap();
        assert_eq!(id.to_string(), "1700000000123-7");
        for wrong in [&b"17"[..], b"-", b"1-", b"1-2-3", b"a-b", b"1-\xff"] {
            assert_eq!(EntryId::parse(wrong), None);
        }
    }

    #[test]
    fn a_hash_taken_while_reading_is_used_for_its_own_bytes_only() {
        let pool = Pool::new(1 << 20);
        let mut data = pool.lease_now(300);
        data.fill(1);
        let mut digester = Digester::new(300, |_, len| Some(10..len));
        digester.arrived(&data);
        let digest = digester.finish();
        // Changed only to tell the digest from a hash computed later.
        data.fill(2);
        let mut builder = EntryBuilder::new(pool.lease_now(64));
        builder.set_data(data, digest);
        let entry = builder.build();
        let data = entry.data().unwrap();
        assert_eq!(entry.hash_of(&data[10..]), digest::hash_of(&[1; 290]));
        assert_eq!(entry.hash_of(&data[11..]), digest::hash_of(&[2; 289]));
        assert_eq!(entry.hash_of(b"unpacked"), digest::hash_of(b"unpacked"));
    }

    #[test]
    fn side_fields_are_found_by_name_and_bounded() {
        let pool = Pool::new(1 << 20);
        let mut builder = EntryBuilder::new(pool.lease_now(64));
        builder.side_room(b"camera_id", 4).unwrap().copy_from_slice(b"cam1");
        builder.side_room(b"empty", 0).unwrap();
        assert!(builder.side_room(b"huge", 64).is_none());
        let entry = builder.build();
        assert_eq!(entry.side_text("camera_id"), Some("cam1"));
        assert_eq!(entry.side(b"empty"), Some(&b""[..]));
        assert_eq!(entry.side_text("empty"), None);
        assert_eq!(entry.side(b"huge"), None);
        assert!(entry.data().is_none());
    }
}
