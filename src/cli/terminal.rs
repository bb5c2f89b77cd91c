//! What may be shown on a terminal, and how.

use std::io::IsTerminal;

/// Whether to colour what is written to `stream`: <https://no-color.org> and CLICOLOR_FORCE.
pub(super) fn colours(stream: &impl IsTerminal) -> bool {
    decide(
        stream.is_terminal(),
        std::env::var("NO_COLOR").ok().as_deref(),
        std::env::var("CLICOLOR_FORCE").ok().as_deref(),
    )
}

fn decide(is_terminal: bool, no_color: Option<&str>, force: Option<&str>) -> bool {
    if no_color.is_some_and(|value| !value.is_empty()) {
        return false;
    }
    is_terminal || force.is_some_and(|value| !value.is_empty() && value != "0")
}

/// Width of the terminal on standard output; `None` where there is none.
pub(super) fn width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let (columns, _) = ratatui::crossterm::terminal::size().ok()?;
    Some(usize::from(columns)).filter(|width| *width > 0)
}

/// Text from outside as it may reach a terminal: one line, nothing that steers the terminal or
/// turns the direction of writing.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '?' } else { c }).collect()
}

fn steers(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// JSON whose texts steer no terminal either: what JSON itself lets through is written as `\u`.
pub(super) fn printable_json(json: &serde_json::Value) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for c in json.to_string().chars() {
        if steers(c) {
            // Below U+10000, and only ever inside a text. Writing to a string cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// At most `width` characters of `text`; the last says that there were more.
pub(super) fn clip(text: &str, width: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= width {
        return text;
    }
    let mut clipped: String = text.chars().take(width.saturating_sub(1)).collect();
    clipped.push('…');
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_conventions() {
        assert!(decide(true, None, None));
        assert!(!decide(false, None, None));
        assert!(!decide(true, Some("1"), None));
        assert!(decide(true, Some(""), None), "an empty NO_COLOR says nothing");
        assert!(decide(false, None, Some("1")));
        assert!(!decide(false, None, Some("0")));
        assert!(!decide(true, Some("1"), Some("1")), "no means no");
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        let hostile = "cam\x1b[2J\u{9b}1m\u{202e}\n\0é";
        assert_eq!(printable(hostile), "cam?[2J?1m???é");
        let json = printable_json(&serde_json::json!({ "id": hostile }));
        assert!(json.chars().all(|c| !steers(c)), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["id"], hostile);
        assert_eq!(clip("1234567", 5), "1234…");
    }
}
