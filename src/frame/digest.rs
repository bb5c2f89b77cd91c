//! The hash of a picture, computed while its bytes arrive.
//!
//! XXH3 is faster than memory, so its cost depends on where the bytes are. A raw picture has left
//! the caches by the time a worker opens it, so the reader hashes each piece while it is in the
//! cache. The position of the picture within `data` is derived from the first bytes. A worker uses
//! the digest only if the picture is exactly those bytes.

use std::fmt;
use std::hash::Hasher;
use std::ops::Range;

use twox_hash::XxHash3_64;
use twox_hash::xxhash3_64::{RawHasher, SecretBuffer};

/// The picture must begin within this many bytes of the beginning of `data`.
const HEAD_BYTES_MAX: usize = 16 << 10;

type HashSecret = &'static [u8; twox_hash::xxhash3_64::DEFAULT_SECRET_LENGTH];

/// Finds the picture from the first bytes of `data`: `locate(head, len)` returns its range among
/// all `len` bytes. A wrong answer does no harm.
pub type Locate = fn(&[u8], usize) -> Option<Range<usize>>;

/// XXH3, 64 bits, seed 0.
pub fn hash_of(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// XXH3, 64 bits, seed 0, of bytes that come in pieces. Allocates nothing.
pub struct RunningDigest(RawHasher<HashSecret>);

impl RunningDigest {
    /// Takes the next piece.
    pub fn add(&mut self, piece: &[u8]) {
        self.0.write(piece);
    }

    /// The hash of all pieces.
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl Default for RunningDigest {
    fn default() -> Self {
        RunningDigest(RawHasher::new(SecretBuffer::<HashSecret>::default()))
    }
}

impl fmt::Debug for RunningDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunningDigest")
    }
}

/// The hash of a part of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    part: Range<usize>,
    hash: u64,
}

impl Digest {
    /// The hash, if `part` is exactly the part of `whole` that was hashed.
    pub fn of_part(&self, whole: &[u8], part: &[u8]) -> Option<u64> {
        let same = whole.get(self.part.clone()).is_some_and(|made_of| std::ptr::eq(made_of, part));
        same.then_some(self.hash)
    }
}

/// A digest in progress.
pub struct Digester {
    locate: Locate,
    len: usize,
    /// The range of the picture, and how far it is hashed.
    part: Option<Range<usize>>,
    hashed: usize,
    hasher: RunningDigest,
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").field("part", &self.part).finish_non_exhaustive()
    }
}

impl Digester {
    /// A digester for `len` bytes that are about to arrive.
    pub fn new(len: usize, locate: Locate) -> Digester {
        Digester { locate, len, part: None, hashed: 0, hasher: RunningDigest::default() }
    }

    /// Takes everything that has arrived since the beginning. Returns whether further pieces are
    /// needed.
    pub fn arrived(&mut self, so_far: &[u8]) -> bool {
        if self.part.is_none() && self.hashed < HEAD_BYTES_MAX {
            let head = &so_far[..so_far.len().min(HEAD_BYTES_MAX)];
            self.part = (self.locate)(head, self.len);
            self.hashed = self.part.as_ref().map_or(so_far.len(), |part| part.start);
        }
        let Some(part) = &self.part else { return self.hashed < HEAD_BYTES_MAX };
        let end = so_far.len().min(part.end);
        if self.hashed < end {
            self.hasher.add(&so_far[self.hashed..end]);
            self.hashed = end;
        }
        self.hashed < part.end
    }

    /// The digest, if a picture was found and all of it has arrived.
    pub fn finish(self) -> Option<Digest> {
        let part = self.part.filter(|part| self.hashed == part.end)?;
        Some(Digest { part, hash: self.hasher.finish() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Locates the picture at the offset given by the first byte.
    fn behind_the_first(head: &[u8], len: usize) -> Option<Range<usize>> {
        let start = usize::from(*head.first()?);
        (start <= len).then_some(start..len)
    }

    proptest! {
        #[test]
        fn pieces_give_the_hash_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 1..5000),
            pieces in proptest::collection::vec(0_usize..700, 1..6),
        ) {
            let mut digester = Digester::new(bytes.len(), behind_the_first);
            let mut end = 0;
            for piece in pieces.iter().cycle().take(60).chain([&bytes.len()]) {
                end = (end + piece).min(bytes.len());
                digester.arrived(&bytes[..end]);
            }
            let start = usize::from(bytes[0]);
            let digest = digester.finish();
            prop_assert_eq!(digest.is_some(), start <= bytes.len());
            if let Some(digest) = digest {
                let part = &bytes[start..];
                prop_assert_eq!(digest.of_part(&bytes, part), Some(xxhash_rust::xxh3::xxh3_64(part)));
            }
        }
    }

    #[test]
    fn a_digest_holds_for_its_own_bytes_only() {
        let mut bytes = [7_u8; 300];
        bytes[0] = 20;
        let mut digester = Digester::new(bytes.len(), behind_the_first);
        digester.arrived(&bytes);
        let digest = digester.finish().unwrap();
        assert_eq!(digest.of_part(&bytes, &bytes[20..]), Some(hash_of(&bytes[20..])));
        assert_eq!(digest.of_part(&bytes, &bytes[21..]), None, "another part");
        assert_eq!(digest.of_part(&bytes, &bytes[20..299]), None, "a shorter part");
        let copy = bytes;
        assert_eq!(digest.of_part(&bytes, &copy[20..]), None, "other bytes that look the same");
    }

    #[test]
    fn a_picture_that_is_late_or_cut_off_has_no_digest() {
        fn late(head: &[u8], _: usize) -> Option<Range<usize>> {
            (head.len() > HEAD_BYTES_MAX).then_some(HEAD_BYTES_MAX..HEAD_BYTES_MAX + 10)
        }
        let bytes = vec![1; HEAD_BYTES_MAX + 10];
        let mut digester = Digester::new(bytes.len(), late);
        assert!(digester.arrived(&bytes[..HEAD_BYTES_MAX - 1]), "it may still come");
        assert!(!digester.arrived(&bytes[..HEAD_BYTES_MAX]), "no more pieces are wanted");
        digester.arrived(&bytes);
        assert_eq!(digester.finish(), None, "found too late");

        let mut digester = Digester::new(bytes.len(), |_, len| Some(5..len + 1));
        digester.arrived(&bytes);
        assert_eq!(digester.finish(), None, "reaches beyond the end");
    }
}
