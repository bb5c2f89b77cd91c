//! The field `ring` of an entry: a reference to the pixels of its frame.

use std::fmt;

use super::layout::is_name;

/// Longest reference: a name of 64 bytes, and five numbers with a slash before each.
const TEXT_MAX: usize = 64 + 33 + 11 + 21 + 21 + 17;

/// The location of the pixels of one frame: `NAME/EPOCH/SLOT/GENERATION/LENGTH/XXH3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The ring.
    pub name: String,
    /// The epoch of the file of this name.
    pub epoch: u128,
    /// The slot, from 0.
    pub slot: u32,
    /// Its generation, which is even.
    pub generation: u64,
    /// Bytes of the pixels.
    pub length: u64,
    /// XXH3-64 of the pixels; 0 if it is not given.
    pub hash: u64,
}

/// Why text is not a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// Not six parts, or too long.
    #[error("it is not NAME/EPOCH/SLOT/GENERATION/LENGTH/XXH3")]
    Form,
    /// A name that a ring cannot have.
    #[error("its name is not that of a ring")]
    Name,
    /// A part that is not a valid number.
    #[error("its {0} is not a valid number")]
    Number(&'static str),
    /// An odd generation: the slot is being written.
    #[error("its generation is odd")]
    Odd,
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// [`BadReference`] for anything that a producer must not write.
    pub fn parse(text: &[u8]) -> Result<Reference, BadReference> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= TEXT_MAX);
        let mut parts = text.ok_or(BadReference::Form)?.split('/');
        let mut part = || parts.next().ok_or(BadReference::Form);
        let [name, epoch, slot, generation, length, hash] =
            [part()?, part()?, part()?, part()?, part()?, part()?];
        if parts.next().is_some() {
            return Err(BadReference::Form);
        }
        if !is_name(name) {
            return Err(BadReference::Name);
        }
        let epoch = Some(epoch).filter(|epoch| epoch.len() == 32).and_then(hex);
        let hash = Some(hash).filter(|hash| hash.len() <= 16).and_then(hex);
        let reference = Reference {
            name: name.to_owned(),
            epoch: epoch.ok_or(BadReference::Number("epoch"))?,
            slot: decimal(slot)
                .and_then(|slot| u32::try_from(slot).ok())
                .ok_or(BadReference::Number("slot"))?,
            generation: decimal(generation).ok_or(BadReference::Number("generation"))?,
            length: decimal(length).ok_or(BadReference::Number("length"))?,
            hash: hash
                .and_then(|hash| u64::try_from(hash).ok())
                .ok_or(BadReference::Number("XXH3"))?,
        };
        if !reference.generation.is_multiple_of(2) {
            return Err(BadReference::Odd);
        }
        Ok(reference)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reference { name, epoch, slot, generation, length, hash } = self;
        write!(f, "{name}/{epoch:032x}/{slot}/{generation}/{length}/{hash:016x}")
    }
}

/// Digits only: `parse` would also accept a sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Lower-case digits only.
fn hex(text: &str) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.bytes().all(is_digit).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOUND: &str = "cam-1/000102030405060708090a0b0c0d0e0f/3/4/3110400/00000000000000ff";

    #[test]
    fn a_reference_is_read_and_written() {
        let reference = Reference::parse(SOUND.as_bytes()).unwrap();
        assert_eq!(reference.name, "cam-1");
        assert_eq!(reference.epoch, 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        assert_eq!((reference.slot, reference.generation), (3, 4));
        assert_eq!((reference.length, reference.hash), (3_110_400, 255));
        assert_eq!(reference.to_string(), SOUND);
        let short = SOUND.replace("00000000000000ff", "0");
        assert_eq!(Reference::parse(short.as_bytes()).unwrap().hash, 0, "no hash is given");
    }

    #[test]
    fn what_no_producer_writes_is_refused() {
        let refused = |from: &str, to: &str| {
            Reference::parse(SOUND.replacen(from, to, 1).as_bytes()).unwrap_err()
        };
        assert_eq!(refused("cam-1", "../passwd"), BadReference::Form);
        assert_eq!(refused("cam-1", ".."), BadReference::Name);
        assert_eq!(refused("cam-1", ""), BadReference::Name);
        assert_eq!(refused("/3/", "/"), BadReference::Form);
        assert_eq!(refused("0001", "001"), BadReference::Number("epoch"));
        assert_eq!(refused("0a0b", "0A0B"), BadReference::Number("epoch"));
        assert_eq!(refused("/3/", "/+3/"), BadReference::Number("slot"));
        assert_eq!(refused("/3/", "/-3/"), BadReference::Number("slot"));
        assert_eq!(refused("/3/", "/4294967296/"), BadReference::Number("slot"));
        assert_eq!(refused("/3/", "//"), BadReference::Number("slot"));
        assert_eq!(refused("/4/", "/5/"), BadReference::Odd);
        assert_eq!(refused("/4/", "/18446744073709551616/"), BadReference::Number("generation"));
        assert_eq!(refused("3110400", "3e6"), BadReference::Number("length"));
        assert_eq!(refused("00ff", "00fg"), BadReference::Number("XXH3"));
        assert_eq!(refused("00ff", "00ff0"), BadReference::Number("XXH3"));
        assert_eq!(refused("00000000000000ff", ""), BadReference::Number("XXH3"));
    }

    proptest! {
        #[test]
        fn no_text_whatever_causes_a_panic(text: Vec<u8>) {
            let _ = Reference::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(
            name in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
            epoch: u128, slot: u32, generation: u64, length: u64, hash: u64,
        ) {
            let generation = generation & !1;
            let reference = Reference { name, epoch, slot, generation, length, hash };
            prop_assert_eq!(Reference::parse(reference.to_string().as_bytes()), Ok(reference));
        }
    }
}
