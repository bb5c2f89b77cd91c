//! The only module that writes to standard output and standard error, so that foreign text is
//! always cleaned. `framepress inspect | head` is not a failure: if the reader of a pipe is gone,
//! the command ends silently. Any other failed write is a failure.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::base::{Fault, text};
use crate::cli::failure::Failure;

/// Writes one or several lines.
pub(in crate::cli) fn line(shown: impl Display) -> Result<(), Failure> {
    verbatim(text::lines(&format!("{shown}\n")).as_bytes())
}

/// Writes lines with the program's own colours. Foreign text in them must already be clean.
pub(in crate::cli) fn coloured(shown: &str) -> Result<(), Failure> {
    verbatim(text::coloured(shown).as_bytes())
}

/// Writes JSON and a line feed. Cleaning does not change its meaning for a parser.
pub(in crate::cli) fn json(json: &impl Display) -> Result<(), Failure> {
    verbatim(text::json(&format!("{json}\n")).as_bytes())
}

/// Writes a line to standard error; ignores failures.
pub(in crate::cli) fn remark(shown: impl Display) {
    let _ = std::io::stderr().write_all(text::lines(&format!("{shown}\n")).as_bytes());
}

/// Writes a question to standard error; the answer is typed on the same line.
pub(in crate::cli) fn question(shown: impl Display) {
    let _ = std::io::stderr().write_all(text::lines(&shown.to_string()).as_bytes());
}

/// Writes bytes unchanged, for text that the program generates itself.
pub(in crate::cli) fn verbatim(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failed)
}

/// Converts a failed write to standard output.
pub(in crate::cli) fn failed(source: std::io::Error) -> Failure {
    match source.kind() {
        ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Fault::io("cannot write to standard output", source).into(),
    }
}
