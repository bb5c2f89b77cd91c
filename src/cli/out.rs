//! The only module that writes to standard output and standard error, so that foreign text is
//! always cleaned. `framepress inspect | head` is not a failure: if the reader of a pipe is gone,
//! the command ends silently. Any other failed write is a failure.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use super::Failure;
use crate::base::{Fault, text};

/// Writes one or several lines.
pub(super) fn line(shown: impl Display) -> Result<(), Failure> {
    bytes(text::lines(&format!("{shown}\n")).as_bytes())
}

/// Writes lines with the program's own colours. Foreign text in them must already be clean.
pub(super) fn coloured(shown: &str) -> Result<(), Failure> {
    bytes(text::coloured(shown).as_bytes())
}

/// Writes JSON and a line feed. Cleaning does not change its meaning for a parser.
pub(super) fn json(json: &impl Display) -> Result<(), Failure> {
    bytes(text::json(&format!("{json}\n")).as_bytes())
}

/// Writes a line to standard error; ignores failures.
pub(super) fn remark(shown: impl Display) {
    let _ = std::io::stderr().write_all(text::lines(&format!("{shown}\n")).as_bytes());
}

/// Writes a question to standard error; the answer is typed on the same line.
pub(super) fn question(shown: impl Display) {
    let _ = std::io::stderr().write_all(text::lines(&shown.to_string()).as_bytes());
}

/// Writes bytes unchanged, for text that the program generates itself.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failed)
}

/// Converts a failed write to standard output.
pub(super) fn failed(source: std::io::Error) -> Failure {
    match source.kind() {
        ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Fault::io("cannot write to standard output", source).into(),
    }
}
