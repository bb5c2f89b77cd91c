//! Reads and writes the EXIF orientation.
//!
//! Format: JEITA CP-3451 (EXIF 2.3), a TIFF structure of which only tag 0x0112 is used. JPEG stores
//! it in APP1 after `Exif\0\0`, PNG in the chunk `eXIf`, WebP in the chunk `EXIF`.

use super::orient::Orientation;

/// Prefix of the TIFF structure in JPEG, and in some WebP files.
const LEAD: &[u8] = b"Exif\0\0";
/// The tag of the orientation.
const ORIENTATION: u16 = 0x0112;
/// Maximum number of entries read from the first directory.
const ENTRIES_MAX: u16 = 512;

/// The orientation in the body of an APP1 segment; `None` for another kind of APP1 or if the tag is
/// missing.
pub(super) fn of_segment(body: &[u8]) -> Option<Orientation> {
    of_tiff(body.strip_prefix(LEAD)?)
}

/// The orientation of a PNG file. The search ends at the first truncated chunk.
pub(super) fn of_png(bytes: &[u8]) -> Orientation {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [l3, l2, l1, l0, name @ ..] = *head;
        let len = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        let Some((body, after)) = after.split_at_checked(len) else { break };
        if &name == b"eXIf" {
            return of_tiff(body).unwrap_or_default();
        }
        rest = after.get(4..).unwrap_or_default();
    }
    Orientation::default()
}

/// The orientation of a WebP file. Only files that begin with a `VP8X` chunk have EXIF data.
pub(super) fn of_webp(bytes: &[u8]) -> Orientation {
    let mut rest = bytes.get(12..).unwrap_or_default();
    if !rest.starts_with(b"VP8X") {
        return Orientation::default();
    }
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [n0, n1, n2, n3, len @ ..] = *head;
        let len = u32::from_le_bytes(len) as usize;
        let Some((body, after)) = after.split_at_checked(len) else { break };
        if &[n0, n1, n2, n3] == b"EXIF" {
            return of_tiff(body.strip_prefix(LEAD).unwrap_or(body)).unwrap_or_default();
        }
        rest = after.get(len % 2..).unwrap_or_default();
    }
    Orientation::default()
}

/// A TIFF structure that holds only the orientation.
pub(super) fn tiff(orientation: Orientation) -> [u8; 26] {
    let mut tiff = *b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0";
    tiff[19] = orientation.number();
    tiff
}

/// The body of an APP1 segment that holds only the orientation.
pub(super) fn segment(orientation: Orientation) -> [u8; 32] {
    let mut body = [0; 32];
    body[..LEAD.len()].copy_from_slice(LEAD);
    body[LEAD.len()..].copy_from_slice(&tiff(orientation));
    body
}

fn of_tiff(tiff: &[u8]) -> Option<Orientation> {
    let is_big = match tiff.get(..4)? {
        b"MM\0\x2a" => true,
        b"II\x2a\0" => false,
        _ => return None,
    };
    let word = |at: usize| -> Option<u16> {
        let bytes = <[u8; 2]>::try_from(tiff.get(at..at.checked_add(2)?)?).ok()?;
        Some(if is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let first = <[u8; 4]>::try_from(tiff.get(4..8)?).ok()?;
    let first = if is_big { u32::from_be_bytes(first) } else { u32::from_le_bytes(first) } as usize;
    let entries = word(first)?.min(ENTRIES_MAX);
    for index in 0..usize::from(entries) {
        let entry = first.checked_add(2 + 12 * index)?;
        if word(entry)? == ORIENTATION {
            // The type is SHORT, stored in the first two bytes of the value. Some writers use LONG.
            let value = match (word(entry + 2)?, is_big) {
                (4, true) => word(entry + 10)?,
                _ => word(entry + 8)?,
            };
            return Orientation::new(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        for number in 1..=8 {
            let orientation = Orientation::new(number).unwrap();
            assert_eq!(of_segment(&segment(orientation)), Some(orientation));
        }
        assert_eq!(of_segment(b"http://ns.adobe.com/xap/1.0/\0"), None);
    }

    #[test]
    fn either_byte_order_and_long_values_are_read() {
        let little = b"II\x2a\0\x08\0\0\0\x02\0\x0f\x01\x02\0\0\0\0\0\0\0\0\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0";
        assert_eq!(of_tiff(little).map(Orientation::number), Some(8));
        let long = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x03\0\0\0\0";
        assert_eq!(of_tiff(long).map(Orientation::number), Some(3));
        let nonsense = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0";
        assert_eq!(of_tiff(nonsense), None);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            for head in [&b"MM\0\x2a"[..], b"II\x2a\0", b"II\x2a\0\x08\0\0\0\xff\xff"] {
                let bytes = [head, &tail].concat();
                of_tiff(&bytes);
                of_png(&[b"\x89PNG\r\n\x1a\n\0\0\0\x20eXIf", &bytes[..]].concat());
                of_webp(&[b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0EXIF", &bytes[..]].concat());
            }
            of_png(&tail);
            of_webp(&tail);
        }
    }
}
