//! Standard output of commands whose output is their result. `framepress inspect | head` is no
//! failure: when the reader of a pipe has gone, the command ends in silence.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use super::Failure;
use crate::base::Fault;

/// Writes one line, or several.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a line to standard error, if anybody reads it.
pub(super) fn remark(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes bytes as they are.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|source| match source.kind() {
        ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Fault::io("cannot write to standard output", source).into(),
    })
}
