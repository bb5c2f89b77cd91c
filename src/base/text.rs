//! Text from outside, made safe to show. All such text in terminals, logs and HTTP answers goes
//! through here.
//!
//! A name or a message from a camera, a server or a file may hold characters that control a
//! terminal, reverse the writing direction, or are invisible. Such a character never leaves the
//! program unchanged. The form depends on the reader of the text: a person sees `?`, a JSON parser
//! gets the same text through `\u` escapes, and a metric label stays distinct from every other
//! label.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character controls its display or is invisible: control characters (C0, C1 and DEL),
/// line and paragraph separators, and the format characters of Unicode. These are direction marks,
/// zero-width joiners and spaces, fillers, annotations, variation selectors of plane 14, and tags.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// One line for a person: `?` in place of each unsafe character, line feeds included.
pub fn line(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '?' } else { c }).collect()
}

/// Text of several lines for a person. Only for text that the program has composed: a line feed in
/// a part from outside would begin a new line, so such a part must go through [`line()`] first.
pub fn lines(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) && c != '\n' { '?' } else { c }).collect()
}

/// Lines for a person in which the program's own colours stay: `ESC [`, digits and semicolons, `m`.
pub fn coloured(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\x1b[") {
        out.push_str(&lines(before));
        let end = behind.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(behind.len());
        match behind[end..].strip_prefix('m') {
            Some(after) => {
                out.push_str(&format!("\x1b[{}m", &behind[..end]));
                rest = after;
            }
            None => {
                out.push_str("?[");
                rest = behind;
            }
        }
    }
    out + &lines(rest)
}

/// JSON with `\u` escapes in place of unsafe characters. Unsafe characters occur only in strings,
/// where JSON has no line feed, so a parser reads the same value.
pub fn json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|c| is_unsafe(c) && c != '\n') {
        return json.into();
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// The value of a metric label, distinct from all others: `\u{..}` in place of each unsafe
/// character. If there is one, or something that looks like such an escape, backslashes are
/// doubled. Line feeds are left to the metrics format, which escapes them.
pub fn label(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| is_unsafe(c) && c != '\n';
    if !text.chars().any(is_unsafe) && !text.contains("\\u{") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if is_unsafe(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "cam\x1b[2J\u{9b}1m\u{202e}\n\0é\u{200b}\u{e0041}\u{7f}\u{2028}";

    #[test]
    fn nothing_unsafe_is_shown_to_a_person() {
        assert_eq!(line(HOSTILE), "cam?[2J?1m???é????");
        assert_eq!(lines("a\x1b\nb\r"), "a?\nb?");
        assert_eq!(
            coloured("\x1b[1;31ma\x1b[0m\n\x1b[2Jb\x1bc\x1b["),
            "\x1b[1;31ma\x1b[0m\n?[2Jb?c?["
        );
        assert_eq!(
            line("Straße 9, カメラ, 街 🚗 -_./:\"'\\"),
            "Straße 9, カメラ, 街 🚗 -_./:\"'\\"
        );
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE, "plain"] });
        let text = value.to_string() + "\n";
        let shown = json(&text);
        assert!(shown.trim_end_matches('\n').chars().all(|c| !is_unsafe(c)), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(shown.ends_with("}\n"));
    }

    #[test]
    fn names_stay_distinct() {
        let names = [
            "a\u{1b}",
            "a\\u{1b}",
            "a\\\\u{1b}",
            "a\\\u{1b}",
            "a\\",
            "a\\\\",
            "a",
            "a\u{9b}",
            "a?",
        ];
        let shown: std::collections::HashSet<_> = names.iter().map(|name| label(name)).collect();
        assert_eq!(shown.len(), names.len(), "{shown:?}");
        assert!(shown.iter().all(|name| !name.chars().any(is_unsafe)));
        assert_eq!(label("C:\\cam"), "C:\\cam");
    }
}
