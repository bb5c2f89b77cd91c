//! The binary format of a ring file. All numbers are little-endian.

/// Length of the header and of a slot's head. Pixels begin on a page boundary.
pub const PAGE: u64 = 4096;

/// Fewest slots of a ring: one is written while another is read.
pub const SLOTS_MIN: u32 = 2;

/// Most slots of a ring.
pub const SLOTS_MAX: u32 = 65_536;

/// Used bytes of the header.
pub(super) const HEADER_BYTES: usize = 64;

/// Used bytes of a slot's head.
pub(super) const SLOT_HEAD_BYTES: usize = 24;

const MAGIC: [u8; 8] = *b"FPRING1\n";

/// Longest name of a ring, in bytes.
const NAME_MAX: usize = 64;

/// The properties of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingHeader {
    /// Number of slots, [`SLOTS_MIN`] to [`SLOTS_MAX`].
    pub slots: u32,
    /// Bytes for pixels in each slot, a multiple of [`PAGE`].
    pub room: u64,
    /// Random, different for each file.
    pub epoch: u128,
    /// The id of the boot of this machine.
    pub boot_id: u128,
    /// When it was created, in microseconds since the Unix epoch.
    pub made_at_micros: u64,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// They begin with other bytes.
    #[error("it does not begin with the signature of a ring")]
    Magic,
    /// The header length of another version.
    #[error("the length of its header is not {PAGE}")]
    Length,
    /// Too few or too many slots.
    #[error("it has {0} slots, not {SLOTS_MIN} to {SLOTS_MAX}")]
    Slots(u32),
    /// The room is 0, not a multiple of a page, or larger than a file can be.
    #[error("its slots have room for {0} bytes; valid: a multiple of {PAGE} that fits into a file")]
    Room(u64),
}

impl RingHeader {
    /// The first bytes of a ring.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&MAGIC);
        put(&(PAGE as u32).to_le_bytes());
        put(&self.slots.to_le_bytes());
        put(&self.room.to_le_bytes());
        // Both ids are bytes in the order in which they are printed.
        put(&self.epoch.to_be_bytes());
        put(&self.boot_id.to_be_bytes());
        put(&self.made_at_micros.to_le_bytes());
        bytes
    }

    /// Reads the first bytes of a ring.
    ///
    /// # Errors
    /// [`BadHeader`] for bytes that are not a header, or that a producer must not write.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<RingHeader, BadHeader> {
        let mut rest = &bytes[..];
        if take::<8>(&mut rest) != MAGIC {
            return Err(BadHeader::Magic);
        }
        if u64::from(u32::from_le_bytes(take(&mut rest))) != PAGE {
            return Err(BadHeader::Length);
        }
        let header = RingHeader {
            slots: u32::from_le_bytes(take(&mut rest)),
            room: u64::from_le_bytes(take(&mut rest)),
            epoch: u128::from_be_bytes(take(&mut rest)),
            boot_id: u128::from_be_bytes(take(&mut rest)),
            made_at_micros: u64::from_le_bytes(take(&mut rest)),
        };
        header.file_len().map(|_| header)
    }

    /// Bytes of the whole file.
    ///
    /// # Errors
    /// [`BadHeader`] for a number of slots or a room that a ring cannot have.
    pub fn file_len(&self) -> Result<u64, BadHeader> {
        if !(SLOTS_MIN..=SLOTS_MAX).contains(&self.slots) {
            return Err(BadHeader::Slots(self.slots));
        }
        let is_sound = self.room > 0 && self.room.is_multiple_of(PAGE);
        let len = self
            .room
            .checked_add(PAGE)
            .and_then(|slot| slot.checked_mul(u64::from(self.slots)))
            .and_then(|slots| slots.checked_add(PAGE))
            .filter(|&len| is_sound && i64::try_from(len).is_ok());
        len.ok_or(BadHeader::Room(self.room))
    }

    /// The position of the head of a slot; `None` if there is no such slot.
    pub fn slot_at(&self, slot: u32) -> Option<u64> {
        // In a header that was not decoded, the room may be any number.
        let before = self.room.checked_add(PAGE)?.checked_mul(u64::from(slot))?;
        before.checked_add(PAGE).filter(|_| slot < self.slots)
    }
}

/// The state of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotHead {
    /// Raised by one before the slot is written and again afterwards, so it is odd meanwhile.
    pub generation: u64,
    /// Bytes of the pixels.
    pub length: u64,
    /// XXH3-64 of the pixels; 0 if it is not given.
    pub hash: u64,
}

impl SlotHead {
    /// The first bytes of a slot.
    pub fn encode(&self) -> [u8; SLOT_HEAD_BYTES] {
        let mut bytes = [0; SLOT_HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..].copy_from_slice(&self.hash.to_le_bytes());
        bytes
    }

    /// Reads the first bytes of a slot.
    pub fn decode(bytes: &[u8; SLOT_HEAD_BYTES]) -> SlotHead {
        let mut rest = &bytes[..];
        let mut number = || u64::from_le_bytes(take(&mut rest));
        SlotHead { generation: number(), length: number(), hash: number() }
    }
}

/// The next `N` bytes. Missing bytes are zero; both callers have enough.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let (part, behind) = rest.split_at(N.min(rest.len()));
    taken[..part.len()].copy_from_slice(part);
    *rest = behind;
    taken
}

/// Whether a ring may have this name: letters, digits, `.`, `_` and `-`, beginning with a letter or
/// digit, at most 64 bytes.
pub fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_MAX).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOUND: RingHeader = RingHeader {
        slots: 3,
        room: 8192,
        epoch: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
        boot_id: 7,
        made_at_micros: 1_700_000_000_000_000,
    };

    #[test]
    fn the_header_has_the_bytes_of_the_format() {
        let bytes = SOUND.encode();
        assert_eq!(&bytes[..8], b"FPRING1\n");
        assert_eq!(bytes[8..12], [0, 16, 0, 0]);
        assert_eq!(bytes[12..16], [3, 0, 0, 0]);
        assert_eq!(bytes[16..24], [0, 32, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..28], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(RingHeader::decode(&bytes), Ok(SOUND));
        assert_eq!(SOUND.file_len(), Ok(4096 + 3 * (4096 + 8192)));
        assert_eq!(SOUND.slot_at(2), Some(4096 + 2 * (4096 + 8192)));
        assert_eq!(SOUND.slot_at(3), None);
    }

    #[test]
    fn a_header_that_lies_is_none() {
        let changed = |at: usize, with: &[u8]| {
            let mut bytes = SOUND.encode();
            bytes[at..at + with.len()].copy_from_slice(with);
            RingHeader::decode(&bytes).unwrap_err()
        };
        assert_eq!(changed(0, b"FPRING2\n"), BadHeader::Magic);
        assert_eq!(changed(8, &[0, 32, 0, 0]), BadHeader::Length);
        assert_eq!(changed(12, &[1, 0, 0, 0]), BadHeader::Slots(1));
        assert_eq!(changed(12, &[1, 0, 1, 0]), BadHeader::Slots(65_537));
        assert_eq!(changed(16, &[0; 8]), BadHeader::Room(0));
        assert_eq!(changed(16, &[1, 32, 0, 0, 0, 0, 0, 0]), BadHeader::Room(8193));
        let endless = (u64::MAX - 4095).to_le_bytes();
        assert_eq!(changed(16, &endless), BadHeader::Room(u64::MAX - 4095));
    }

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["a", "cam-1.north_2", "0", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".a", "-a", "_a", "a/b", "a\0", "ü", "a b", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn slots_lie_within_the_file(slots: u32, room: u64, slot: u32) {
            let header = RingHeader { slots, room, ..SOUND };
            if let (Ok(len), Some(at)) = (header.file_len(), header.slot_at(slot)) {
                prop_assert!(at >= PAGE && at + PAGE + room <= len);
            }
        }

        #[test]
        fn heads_are_read_as_they_were_written(generation: u64, length: u64, hash: u64) {
            let head = SlotHead { generation, length, hash };
            prop_assert_eq!(SlotHead::decode(&head.encode()), head);
        }
    }
}
