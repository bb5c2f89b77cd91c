//! Why a subcommand failed, and the exit code of that.

use crate::base::Fault;
use crate::config::ConfigError;

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the configuration is wrong\n{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The reader of standard output is gone; ends silently.
    #[error("the reader of the output has gone")]
    ReaderGone,
    /// Wrong usage, explained by the command-line parser.
    #[error("{0}")]
    Typed(String),
}

impl Failure {
    pub(super) fn code(&self) -> u8 {
        match self {
            Failure::Config(_) | Failure::Usage(_) | Failure::Typed(_) => 2,
            Failure::Fault(_) => 1,
            Failure::ReaderGone => 0,
        }
    }

    /// The message to show, if any.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Failure::ReaderGone => None,
            Failure::Typed(text) => Some(text.trim_end().to_owned()),
            Failure::Config(_) | Failure::Usage(_) | Failure::Fault(_) => {
                Some(format!("framepress: {self}"))
            }
        }
    }
}
