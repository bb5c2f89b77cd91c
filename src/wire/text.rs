//! Converts JSON that Python's `json.loads` accepts into JSON that `serde_json` reads.
//!
//! Python accepts UTF-8 with a byte order mark, UTF-16 and UTF-32, and the words `NaN`, `Infinity`
//! and `-Infinity`. Ordinary JSON is passed on unchanged.

use std::borrow::Cow;

/// The `data` as UTF-8, without a leading byte order mark and without trailing white space and NUL
/// bytes of C strings. `None` for broken UTF-16 or UTF-32.
pub(super) fn as_utf8(data: &[u8]) -> Option<Cow<'_, [u8]>> {
    let plain = match data {
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(rest),
        [0xff, 0xfe, 0, 0, rest @ ..] => utf32(rest, u32::from_le_bytes)?,
        [0, 0, 0xfe, 0xff, rest @ ..] => utf32(rest, u32::from_be_bytes)?,
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        [b'{', 0, 0, 0, ..] => utf32(data, u32::from_le_bytes)?,
        [0, 0, 0, b'{', ..] => utf32(data, u32::from_be_bytes)?,
        [b'{', 0, ..] => utf16(data, u16::from_le_bytes)?,
        [0, b'{', ..] => utf16(data, u16::from_be_bytes)?,
        _ => Cow::Borrowed(data),
    };
    Some(match plain {
        Cow::Borrowed(plain) => Cow::Borrowed(trimmed(plain)),
        Cow::Owned(mut plain) => {
            plain.truncate(trimmed(&plain).len());
            Cow::Owned(plain)
        }
    })
}

/// Whether `data` is a JSON object, in any encoding.
pub(super) fn is_object(data: &[u8]) -> bool {
    match data {
        [b'{', ..] | [0, b'{', ..] | [0, 0, 0, b'{', ..] => true,
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.trim_ascii_start().first() == Some(&b'{'),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0xfe, 0xff, ..] => true,
        _ => false,
    }
}

fn trimmed(plain: &[u8]) -> &[u8] {
    let end = plain.iter().rposition(|byte| !matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n'));
    &plain[..end.map_or(0, |last| last + 1)]
}

fn utf16(bytes: &[u8], read: fn([u8; 2]) -> u16) -> Option<Cow<'static, [u8]>> {
    let (units, rest) = bytes.as_chunks::<2>();
    let text = char::decode_utf16(units.iter().map(|unit| read(*unit)));
    let text = text.collect::<Result<String, _>>().ok()?;
    // Half a unit can be the NUL of a C string.
    rest.iter().all(|&byte| byte == 0).then(|| Cow::Owned(text.into_bytes()))
}

fn utf32(bytes: &[u8], read: fn([u8; 4]) -> u32) -> Option<Cow<'static, [u8]>> {
    let (units, rest) = bytes.as_chunks::<4>();
    let text: Option<String> = units.iter().map(|unit| char::from_u32(read(*unit))).collect();
    rest.iter().all(|&byte| byte == 0).then_some(())?;
    text.map(|text| Cow::Owned(text.into_bytes()))
}

/// The same JSON with the words `NaN`, `Infinity` and `-Infinity` in quotes; `None` if there are
/// none outside strings.
pub(super) fn quote_constants(json: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut quoted = Vec::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = memchr::memchr3(b'"', b'N', b'I', &json[at..]) {
        at += found;
        if json[at] == b'"' {
            at = end_of_string(json, at + 1);
            continue;
        }
        let start = if json[at] == b'I' && at > 0 && json[at - 1] == b'-' { at - 1 } else { at };
        match WORDS.into_iter().find(|word| json[start..].starts_with(word)) {
            Some(word) => {
                quoted.extend_from_slice(&json[copied..start]);
                quoted.push(b'"');
                quoted.extend_from_slice(word);
                quoted.push(b'"');
                at = start + word.len();
                copied = at;
            }
            None => at += 1,
        }
    }
    if copied == 0 {
        return None;
    }
    quoted.extend_from_slice(&json[copied..]);
    Some(quoted)
}

/// The position after the quote that ends the string beginning at `at`.
fn end_of_string(json: &[u8], mut at: usize) -> usize {
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if json[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_that_json_has_is_read() {
        let text = "{\"camera_id\": \"Tor Süd 😀\"}";
        let little16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let little32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        let big32: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        for (mark, bytes) in [
            (&b"\xef\xbb\xbf"[..], text.as_bytes()),
            (b"\xff\xfe", &little16),
            (b"\xfe\xff", &big16),
            (b"\xff\xfe\0\0", &little32),
            (b"\0\0\xfe\xff", &big32),
        ] {
            for with in
                [bytes.to_vec(), [mark, bytes].concat(), [mark, bytes, b"\0\0\0\0"].concat()]
            {
                assert!(is_object(&with));
                assert_eq!(as_utf8(&with).as_deref(), Some(text.as_bytes()), "{mark:?}");
            }
        }
        assert_eq!(as_utf8(b"\xff\xfe\0\xd8"), None, "half a surrogate pair");
    }

    #[test]
    fn words_for_no_number_are_quoted_outside_strings_only() {
        let quoted = |json: &str| {
            quote_constants(json.as_bytes()).map(|json| String::from_utf8(json).unwrap())
        };
        assert_eq!(
            quoted(r#"{"a":NaN,"b":[-Infinity, Infinity],"NaN":"x\"NaN"}"#).as_deref(),
            Some(r#"{"a":"NaN","b":["-Infinity", "Infinity"],"NaN":"x\"NaN"}"#)
        );
        assert_eq!(quoted(r#"{"Infinity":"NaN","b":-1,"c":Nan}"#), None);
        assert_eq!(quoted("\"NaN"), None);
        assert_eq!(quoted("\"\\"), None);
    }
}
