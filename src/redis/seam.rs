//! The seam for faults: what stands between the data plane and its sockets when a test wants to
//! count their operations, or to see each of them fail.

use std::fmt;
use std::io;
use std::sync::Arc;

/// What a data-plane socket is about to ask of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A connection.
    Connect,
    /// Bytes of an answer.
    Read,
    /// Bytes of a request to be sent.
    Write,
}

type Check = dyn Fn(Operation) -> io::Result<()> + Send + Sync;

/// Asked before each operation; an error takes the operation's place. The default lets all pass.
#[derive(Clone, Default)]
pub struct Seam(Option<Arc<Check>>);

impl Seam {
    /// A seam that asks `check`.
    pub fn new(check: impl Fn(Operation) -> io::Result<()> + Send + Sync + 'static) -> Seam {
        Seam(Some(Arc::new(check)))
    }

    pub(super) fn pass(&self, operation: Operation) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |check| check(operation))
    }
}

impl fmt::Debug for Seam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Seam(checked)" } else { "Seam" })
    }
}
