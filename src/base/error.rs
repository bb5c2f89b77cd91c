//! Two kinds of failure, kept apart everywhere.
//!
//! A [`Reject`] concerns one frame: the frame becomes a dead letter and the engine goes on. A
//! [`Fault`] concerns the environment of the engine: a lost connection, a full disk, a thread that
//! panicked. Neither is ever converted into the other.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// Why a frame was refused. The codes are part of the dead-letter format and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The entry, its envelope or its image could not be decoded.
    Undecodable,
    /// Decodable, but not a picture this engine handles.
    UnsupportedImage,
    /// Declared or actual size above a configured limit.
    TooLarge,
    /// The encoder refused the picture.
    EncodeFailed,
    /// Delivered too often without ever being acknowledged.
    MaxDeliveries,
    /// Processing the frame panicked.
    Panic,
    /// The frame ring named in the entry does not exist.
    RingGone,
}

impl Reason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Reason; 7] = [
        Reason::Undecodable,
        Reason::UnsupportedImage,
        Reason::TooLarge,
        Reason::EncodeFailed,
        Reason::MaxDeliveries,
        Reason::Panic,
        Reason::RingGone,
    ];

    /// The stable code written into dead letters and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Reason::Undecodable => "undecodable",
            Reason::UnsupportedImage => "unsupported_image",
            Reason::TooLarge => "too_large",
            Reason::EncodeFailed => "encode_failed",
            Reason::MaxDeliveries => "max_deliveries",
            Reason::Panic => "panic",
            Reason::RingGone => "ring_gone",
        }
    }
}

/// A step in the processing of a frame, for errors, dead letters and latency figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Taking the entry from the input stream.
    Read,
    /// Waiting between reading and a free worker.
    QueueWait,
    /// Envelope and image decoding.
    Decode,
    /// Figures and background model.
    Analyse,
    /// Image and envelope encoding.
    Encode,
    /// Writing the result and acknowledging the entry.
    Commit,
}

impl Stage {
    /// Every stage in the order a frame passes them.
    pub const ALL: [Stage; 6] = [
        Stage::Read,
        Stage::QueueWait,
        Stage::Decode,
        Stage::Analyse,
        Stage::Encode,
        Stage::Commit,
    ];

    /// The stable lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::QueueWait => "queue_wait",
            Stage::Decode => "decode",
            Stage::Analyse => "analyse",
            Stage::Encode => "encode",
            Stage::Commit => "commit",
        }
    }
}

/// The refusal of one frame, with everything its dead letter needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at {}: {detail}", reason.code(), stage.name())]
pub struct Reject {
    /// The stable code.
    pub reason: Reason,
    /// The stage that detected it.
    pub stage: Stage,
    /// Exactly what was wrong, for a person.
    pub detail: Cow<'static, str>,
}

impl Reject {
    /// A refusal at `stage`.
    pub fn new(reason: Reason, stage: Stage, detail: impl Into<Cow<'static, str>>) -> Self {
        Reject { reason, stage, detail: detail.into() }
    }

    /// Bytes that are not what they claim to be.
    pub fn undecodable(detail: impl Into<Cow<'static, str>>) -> Self {
        Reject::new(Reason::Undecodable, Stage::Decode, detail)
    }

    /// A picture of a kind that is not handled.
    pub fn unsupported(detail: impl Into<Cow<'static, str>>) -> Self {
        Reject::new(Reason::UnsupportedImage, Stage::Decode, detail)
    }

    /// Something above a configured limit, detected before memory was allocated for it.
    pub fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Reject::new(Reason::TooLarge, Stage::Decode, detail)
    }

    /// An encoder's refusal.
    pub fn encode_failed(detail: impl Into<Cow<'static, str>>) -> Self {
        Reject::new(Reason::EncodeFailed, Stage::Encode, detail)
    }
}

/// A failure outside a single frame. [`Fault::Connection`] is worth another try with the same
/// settings, and so is [`Fault::Refused`] with a code of a passing state: `OOM`, `LOADING`, `READONLY`,
/// `MASTERDOWN`, `CLUSTERDOWN`, `TRYAGAIN`, `MOVED` or `ASK`. A producer tries these again by itself.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The connection to a Redis server could not be made or was lost. Worth another try.
    #[error("cannot talk to Redis at {endpoint}: {detail}")]
    Connection {
        /// Address without credentials.
        endpoint: String,
        /// The message of the operating system or the protocol.
        detail: String,
    },
    /// Redis answered a command with an error.
    #[error("Redis at {endpoint} refused {command}: {message}")]
    Refused {
        /// Address without credentials.
        endpoint: String,
        /// The command concerned.
        command: &'static str,
        /// The server's message, beginning with its error code.
        message: String,
    },
    /// A Kafka broker, or the connection to it, failed.
    #[error("Kafka: {what}: {detail}")]
    Kafka {
        /// What was being done.
        what: String,
        /// The message of the broker or its client library.
        detail: String,
    },
    /// An operating-system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A precondition does not hold; the text says what to fix.
    #[error("{0}")]
    Unusable(String),
    /// A thread of the engine panicked.
    #[error("thread {thread} panicked: {message}")]
    ThreadPanicked {
        /// Its name.
        thread: String,
        /// The panic message.
        message: String,
    },
    /// The neighbour of a thread is gone. An engine ends with the fault that caused this, if there is
    /// one.
    #[error("the {0} stage has ended")]
    NeighbourGone(&'static str),
}

impl Fault {
    /// Wraps an operating-system error with what was being done.
    #[doc(hidden)]
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Fault::Io { what: what.into(), source }
    }

    /// A lost or refused connection.
    #[doc(hidden)]
    pub fn connection(endpoint: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Fault::Connection { endpoint: endpoint.to_string(), detail: detail.to_string() }
    }

    /// The server's error code (`NOGROUP`, `OOM`, `READONLY` ...), if this is an answer of Redis.
    pub fn redis_code(&self) -> Option<&str> {
        match self {
            Fault::Refused { message, .. } => Some(error_code(message)),
            _ => None,
        }
    }

    /// How much this explains if several threads end with a fault at once. The highest wins, so
    /// that "my neighbour hung up" never hides the cause.
    fn rank(&self) -> u8 {
        match self {
            Fault::NeighbourGone(_) => 0,
            Fault::Connection { .. } | Fault::Refused { .. } | Fault::Kafka { .. } => 1,
            Fault::Io { .. } | Fault::Unusable(_) => 2,
            Fault::ThreadPanicked { .. } => 3,
        }
    }

    /// The one of two faults of an engine that explains more.
    #[must_use]
    #[doc(hidden)]
    pub fn more_telling(self, other: Fault) -> Fault {
        if other.rank() > self.rank() { other } else { self }
    }
}

/// The code at the beginning of an error answer of Redis. Before Redis 7, an error inside a script
/// is wrapped once or twice, with or without the dash, and the inner code is returned:
/// `ERR Error running script (call to f_0a): @user_script:1: @user_script: 1: -READONLY You can't`.
/// A missing right has no code of its own inside a script; `NOPERM` is returned for it.
pub fn error_code(message: &str) -> &str {
    let first_word = |text: &'_ str| text.split(' ').next().map_or(0, str::len);
    let script = message.strip_prefix("ERR Error running script ").unwrap_or_default();
    let raised = script.rsplit_once("@user_script:").and_then(|(_, rest)| rest.split_once(": "));
    if let Some((_, inner)) = raised {
        if inner.starts_with("The user executing the script ") {
            return "NOPERM";
        }
        let inner = inner.strip_prefix('-').unwrap_or(inner);
        let code = &inner[..first_word(inner)];
        if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return code;
        }
    }
    // Redis 7.0, and newer ones.
    let denied = ["ERR The user executing the script ", "ERR ACL failure in script"];
    if denied.iter().any(|start| message.starts_with(start)) {
        return "NOPERM";
    }
    &message[..first_word(message)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_outranks_the_neighbours_it_took_down() {
        let hung_up = Fault::NeighbourGone("commit");
        let cause = Fault::ThreadPanicked {
            thread: "fp-read-0".into(),
            message: "index out of range".into(),
        };
        let folded = hung_up.more_telling(cause).more_telling(Fault::NeighbourGone("read"));
        assert!(matches!(folded, Fault::ThreadPanicked { .. }));
    }

    #[test]
    fn the_code_is_the_first_word_of_the_answer() {
        let fault = Fault::Refused {
            endpoint: "localhost:6379".into(),
            command: "XREADGROUP",
            message: "NOGROUP No such key".into(),
        };
        assert_eq!(fault.redis_code(), Some("NOGROUP"));
        // As Redis 6.2.14 says it.
        let wrapped = "ERR Error running script (call to f_0a): @user_script:1: @user_script: 1: \
                       -OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(error_code(wrapped), "OOM");
        let refused = "ERR Error running script (call to f_0a): @user_script:1: @user_script: 1: \
                       The user executing the script can't run this command or subcommand";
        assert_eq!(error_code(refused), "NOPERM");
        // As 7.0.15 and 8.2.3 say it.
        for refused in [
            "ERR The user executing the script can't run this command or subcommand script: f0",
            "ERR ACL failure in script: User u has no permissions to run the 'xack' command",
        ] {
            assert_eq!(error_code(refused), "NOPERM");
        }
        let raised =
            "ERR Error running script (call to f_0a): @user_script:62: NOGROUP No such key";
        assert_eq!(error_code(raised), "NOGROUP");
        assert_eq!(error_code("ERR unknown command: - what"), "ERR");
        assert_eq!(error_code(""), "");
    }
}
