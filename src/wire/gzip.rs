//! gzip around the `data` of an entry (RFC 1952), unpacked up to a limit.

use std::io::Read;

use flate2::bufread::GzDecoder;

use crate::base::Reject;

/// Bytes reserved before the first byte is unpacked.
const ROOM: usize = 64 << 10;

/// Unpacks the members of `data` one after the other into `into`, at most `max` bytes.
///
/// # Errors
/// `undecodable` if the data is damaged or cut off, `too_large` above `max`.
pub(super) fn unpack(data: &[u8], max: usize, into: &mut Vec<u8>) -> Result<(), Reject> {
    into.clear();
    into.reserve(ROOM.min(max));
    let mut rest = data;
    while !rest.is_empty() {
        let room = max.saturating_sub(into.len()).saturating_add(1);
        let mut member = GzDecoder::new(rest);
        member
            .by_ref()
            .take(u64::try_from(room).unwrap_or(u64::MAX))
            .read_to_end(into)
            .map_err(|error| Reject::undecodable(format!("gzip is damaged: {error}")))?;
        if into.len() > max {
            into.clear();
            return Err(Reject::too_large(format!(
                "gzip holds more than limits.max_payload_bytes ({max})"
            )));
        }
        rest = member.into_inner();
        // Buffers of a fixed size are padded with zeros, which gzip and Python skip too.
        let padding = rest.iter().take_while(|byte| **byte == 0).count();
        rest = &rest[padding..];
    }
    Ok(())
}
