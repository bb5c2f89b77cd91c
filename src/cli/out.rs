//! Standard output and standard error: the only way to either, so that no text from outside gets
//! there as it came. `framepress inspect | head` is no failure: when the reader of a pipe has gone,
//! the command ends in silence. Any other output that cannot be written is one.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use super::Failure;
use crate::base::{Fault, text};

/// Writes one line, or several.
pub(super) fn line(shown: impl Display) -> Result<(), Failure> {
    bytes(text::lines(&format!("{shown}\n")).as_bytes())
}

/// Writes lines with the program's own colours. Parts from outside have to be clean already.
pub(super) fn coloured(shown: &str) -> Result<(), Failure> {
    bytes(text::coloured(shown).as_bytes())
}

/// Writes JSON and a line feed. It means the same to a parser.
pub(super) fn json(json: &impl Display) -> Result<(), Failure> {
    bytes(text::json(&format!("{json}\n")).as_bytes())
}

/// Writes a line to standard error, if anybody reads it.
pub(super) fn remark(shown: impl Display) {
    let _ = std::io::stderr().write_all(text::lines(&format!("{shown}\n")).as_bytes());
}

/// Writes a question to standard error; the answer follows it on its line.
pub(super) fn question(shown: impl Display) {
    let _ = std::io::stderr().write_all(text::lines(&shown.to_string()).as_bytes());
}

/// Writes bytes as they are, for what the program generates from itself.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failed)
}

/// What a failed write to standard output means.
pub(super) fn failed(source: std::io::Error) -> Failure {
    match source.kind() {
        ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Fault::io("cannot write to standard output", source).into(),
    }
}
