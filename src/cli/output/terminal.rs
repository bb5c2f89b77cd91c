//! Terminal detection, colours, width and clipping.

use std::io::IsTerminal;

use crate::base::text;

/// An output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Stream {
    Output,
    Error,
}

/// Whether a stream is a terminal.
pub(in crate::cli) fn is_at(stream: Stream) -> bool {
    match stream {
        Stream::Output => std::io::stdout().is_terminal(),
        Stream::Error => std::io::stderr().is_terminal(),
    }
}

/// Whether to colour what is written to `stream`: <https://no-color.org> and CLICOLOR_FORCE.
pub(in crate::cli) fn colours(stream: Stream) -> bool {
    decide(
        is_at(stream),
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

/// Width of the terminal on standard output; `None` if it is not a terminal.
pub(in crate::cli) fn width() -> Option<usize> {
    if !is_at(Stream::Output) {
        return None;
    }
    let (columns, _) = ratatui::crossterm::terminal::size().ok()?;
    Some(usize::from(columns)).filter(|width| *width > 0)
}

/// At most `width` characters of `text`; a cut is marked by an ellipsis.
pub(in crate::cli) fn clip(text: &str, width: usize) -> String {
    let text = text::line(text);
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
    fn what_is_too_long_says_so() {
        assert_eq!(clip("1234567", 5), "1234…");
        assert_eq!(clip("\x1b]0;x\x07", 9), "?]0;x?");
    }
}
