//! Dead letters as a page shows them: why, not what.

use redis::cmd;

use super::Control;
use crate::base::Fault;

const SCRIPT: &str = include_str!("dead_letters.lua");

/// Most dead letters looked at.
const ENTRIES_MAX: usize = 20;

/// Most bytes Redis looks at for them: each holds a whole frame. One more entry may be looked at.
const BYTES_MAX: usize = 4 << 20;

/// Longest value, in bytes.
const VALUE_MAX: usize = 300;

const FIELDS: [&str; 9] = [
    "original_id",
    "reason",
    "detail",
    "stage",
    "deliveries",
    "failed_at",
    "camera_id",
    "frame_id",
    "traceparent",
];

/// A dead letter without its frame. Texts are cut off at 300 bytes, and empty where the letter
/// does not say.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct DeadLetterNote {
    /// Its id in the dead-letter stream, for `framepress dlq`.
    pub id: String,
    /// The entry's id in the input stream.
    pub original_id: String,
    /// The stable code.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: String,
    /// Where it was noticed.
    pub stage: String,
    /// Deliveries before it was given up.
    pub deliveries: u64,
    /// When, in seconds since the Unix epoch.
    pub failed_at: f64,
    /// As written beside the frame; what is inside it may not be readable.
    pub camera_id: String,
    /// As `camera_id`.
    pub frame_id: String,
    /// The trace it belongs to.
    pub traceparent: String,
    /// Bytes of the whole entry.
    pub bytes: u64,
}

impl Control {
    /// The latest dead letters of a stream, the newest first: at most 20, and fewer when they are
    /// large. The frames in them stay where they are.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn dead_letters(&mut self, stream: &str) -> Result<Vec<DeadLetterNote>, Fault> {
        let mut command = cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(stream).arg(ENTRIES_MAX).arg(BYTES_MAX).arg(VALUE_MAX);
        for field in FIELDS {
            command.arg(field);
        }
        let found: Vec<Vec<Vec<u8>>> = self.run_on(stream, "XREVRANGE", &command)?;
        Ok(found.iter().map(|values| note(values)).collect())
    }
}

fn note(values: &[Vec<u8>]) -> DeadLetterNote {
    let text = |index: usize| {
        values
            .get(index)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    };
    DeadLetterNote {
        id: text(0),
        bytes: text(1).parse().unwrap_or(0),
        original_id: text(2),
        reason: text(3),
        detail: text(4),
        stage: text(5),
        deliveries: text(6).parse().unwrap_or(0),
        failed_at: text(7).parse().unwrap_or(0.0),
        camera_id: text(8),
        frame_id: text(9),
        traceparent: text(10),
    }
}
