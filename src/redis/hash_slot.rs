//! In which slot of a Redis Cluster a key lies.

use crc16::{State, XMODEM};

/// Slots of every cluster.
const SLOTS: u16 = 16_384;

/// The slot of a key: CRC16 (XMODEM) of its hash tag, modulo 16384. The tag is what stands between
/// the first `{` and the next `}`, unless that is nothing; else it is the whole key. From the
/// Redis Cluster specification.
pub fn hash_slot(key: &str) -> u16 {
    State::<XMODEM>::calculate(hash_tag(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// The hash tag of a key, if it has one.
pub fn hash_tag(key: &str) -> Option<&str> {
    let (_, behind) = key.split_once('{')?;
    let (tag, _) = behind.split_once('}')?;
    Some(tag).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification, and CLUSTER KEYSLOT of a real server.
    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(hash_slot("123456789"), 0x31c3);
        assert_eq!(hash_slot("foo"), 12_182);
        assert_eq!(hash_slot("{user1000}.following"), hash_slot("{user1000}.followers"));
        assert_eq!(hash_tag("foo{}{bar}"), None, "an empty tag is none");
        assert_eq!(hash_tag("foo{{bar}}zap"), Some("{bar"));
        assert_eq!(hash_tag("foo{bar}{zap}"), Some("bar"));
    }
}
