//! Base64 as producers write it.
//!
//! Python's `b64decode` skips characters outside the alphabet, so line ends are accepted. In
//! addition, the head of a data URL, the URL-safe alphabet and missing padding are accepted.

use crate::base::Reject;

/// Decodes `text` into `into`. Old contents are overwritten and need not be cleared. Ordinary
/// base64 is decoded directly; anything else is cleaned up first.
pub(super) fn unpack(text: &str, into: &mut Vec<u8>) -> Result<(), Reject> {
    into.resize(base64_simd::STANDARD.estimated_decoded_length(text.len()), 0);
    let out = base64_simd::Out::from_slice(into);
    let decoded = base64_simd::STANDARD.decode(text.as_bytes(), out).ok().map(|bytes| bytes.len());
    let len = match decoded {
        Some(len) => Some(len),
        None => {
            clean(text, into);
            base64_simd::STANDARD_NO_PAD.decode_inplace(into).ok().map(|bytes| bytes.len())
        }
    };
    let len = len.ok_or_else(|| Reject::undecodable("image_base64 is not base64"))?;
    if len == 0 {
        return Err(Reject::undecodable("image_base64 is empty"));
    }
    into.truncate(len);
    Ok(())
}

/// The significant characters in the standard alphabet, without padding. Padding that completes a
/// group ends the data.
fn clean(text: &str, into: &mut Vec<u8>) {
    let body = match text.trim_start() {
        url if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) => {
            url.split_once(',').map_or("", |(_, body)| body)
        }
        _ => text,
    };
    into.clear();
    let mut pads = 0;
    for byte in body.bytes() {
        into.push(match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => byte,
            b'-' => b'+',
            b'_' => b'/',
            b'=' => {
                pads += 1;
                let filled = into.len() % 4;
                if filled >= 2 && filled + pads >= 4 {
                    break;
                }
                continue;
            }
            _ => continue,
        });
        pads = 0;
    }
    // Ignore the bits of the last character that do not belong to a byte.
    let spare = match into.len() % 4 {
        2 => 4,
        3 => 2,
        _ => return,
    };
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if let Some(last) = into.last_mut()
        && let Some(value) = ALPHABET.iter().position(|letter| letter == last)
    {
        *last = ALPHABET[value >> spare << spare];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_takes_and_a_little_more_is_taken() {
        let decoded = |text: &str| {
            let mut bytes = Vec::new();
            unpack(text, &mut bytes).ok().map(|()| bytes)
        };
        let want = Some(vec![0xfb, 0xff, 1, 2]);
        for text in [
            "+/8BAg==",
            "+/8B\r\nAg==\n",
            "+/8BAg",
            "+/8BAg=",
            "-_8BAg",
            "data:image/jpeg;base64,+/8BAg==",
            " DATA:image/png;charset=x;base64,\n-_8BAg==",
            "+/8B*Ag==",
            "+/8BAh==",
            "+/8BAg==AAAA",
            "+/8BAg\u{e4}==",
        ] {
            assert_eq!(decoded(text), want, "{text}");
        }
        for text in ["", "A", "=", "data:", "data:image/jpeg;base64", "*", "AAAAA"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }
}
