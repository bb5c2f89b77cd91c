//! Fault-injection points between the data plane and its sockets: a test can count the socket
//! operations or make any of them fail.

use std::fmt;
use std::io;
use std::sync::Arc;

/// An operation that a data-plane socket is about to request from the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Open a connection.
    Connect,
    /// Read bytes of an answer.
    Read,
    /// Write bytes of a request.
    Write,
}

type Check = dyn Fn(Operation) -> io::Result<()> + Send + Sync;

/// Called before each operation; an error replaces the operation. The default admits all
/// operations.
#[derive(Clone, Default)]
pub struct FaultPoint(Option<Arc<Check>>);

impl FaultPoint {
    /// Creates one that calls `check`.
    pub fn new(check: impl Fn(Operation) -> io::Result<()> + Send + Sync + 'static) -> FaultPoint {
        FaultPoint(Some(Arc::new(check)))
    }

    pub(super) fn pass(&self, operation: Operation) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |check| check(operation))
    }
}

impl fmt::Debug for FaultPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "FaultPoint(checked)" } else { "FaultPoint" })
    }
}
