//! gzip around the `data` of an entry (RFC 1952), unpacked within a bound.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::base::Reject;

/// Room that is reserved before the first byte is unpacked.
const ROOM: usize = 64 << 10;

/// Unpacks `data` into `into`, at most `max` bytes.
///
/// # Errors
/// `undecodable` if the data is damaged or cut off, `too_large` above `max`.
pub(super) fn unpack(data: &[u8], max: usize, into: &mut Vec<u8>) -> Result<(), Reject> {
    into.clear();
    into.reserve(ROOM.min(max));
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(data)
        .take(limit)
        .read_to_end(into)
        .map_err(|error| Reject::undecodable(format!("gzip is damaged: {error}")))?;
    if into.len() > max {
        into.clear();
        return Err(Reject::too_large(format!(
            "gzip holds more than limits.max_payload_bytes ({max})"
        )));
    }
    Ok(())
}
