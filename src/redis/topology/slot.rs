//! Hash slots of a Redis Cluster, which decide on which node a key is.
//!
//! Specification: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>,
//! "Key distribution model" and "Hash tags".

/// Number of slots in every Cluster.
pub const SLOTS: u16 = 16_384;

/// The slot of a key: CRC16 of its hash tag, or of the whole key if it has none.
pub fn slot_of(key: &str) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag_of(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// The hash tag of a key, if any: the text between the first `{` and the next `}`, unless it is
/// empty.
pub fn tag_of(key: &str) -> Option<&str> {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification_and_of_redis_cli() {
        // The check value of the CRC from the specification.
        assert_eq!(crc16::State::<crc16::XMODEM>::calculate(b"123456789"), 0x31c3);
        // From `redis-cli cluster keyslot`.
        for (key, slot) in [("foo", 12_182), ("bar", 5_061), ("hello", 866), ("", 0)] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }

    #[test]
    fn only_a_whole_tag_that_is_not_empty_counts() {
        assert_eq!(slot_of("{user1000}.following"), slot_of("user1000"));
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
        assert_eq!(slot_of("foo{bar}{zap}"), slot_of("bar"));
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"));
        assert_ne!(slot_of("foo{bar"), slot_of("bar"));
        assert_eq!((tag_of("foo{}{bar}"), tag_of("foo{bar}{zap}")), (None, Some("bar")));
    }
}
