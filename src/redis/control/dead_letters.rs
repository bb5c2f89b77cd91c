//! Notes of dead letters for display and counting: the reasons, without the frames.

use redis::cmd;

use super::Control;
use crate::base::Fault;
use crate::frame::EntryId;

/// The fields added to a dead letter behind the original ones, in this order.
pub const DEAD_LETTER_FIELDS: [&str; 7] =
    ["original_id", "queue", "reason", "detail", "stage", "deliveries", "failed_at"];

const SCRIPT: &str = include_str!("../scripts/dead_letters.lua");

/// Maximum number of dead letters in one answer.
const ENTRIES_MAX: usize = 20;

/// Bytes after which Redis stops looking for one answer, because each letter holds a whole frame.
/// The last entry may exceed it.
const BYTES_MAX: usize = 4 << 20;

/// Maximum length of a value in bytes.
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

/// A dead letter without its frame. Texts are cut off at 300 bytes, and empty if the letter has no
/// such field.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct DeadLetterNote {
    /// Its id in the dead-letter stream, for `framepress dlq`.
    pub id: String,
    /// The entry's id in the input stream.
    pub original_id: String,
    /// The stable reason code.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: String,
    /// The pipeline stage that failed.
    pub stage: String,
    /// Deliveries before the entry was given up.
    pub deliveries: u64,
    /// Time of the failure in seconds since the Unix epoch.
    pub failed_at: f64,
    /// The camera as written in the field beside the frame; the frame itself may be unreadable.
    pub camera_id: String,
    /// The frame, from a field beside it like `camera_id`.
    pub frame_id: String,
    /// W3C trace context of the frame.
    pub traceparent: String,
    /// Size of the whole entry in bytes.
    pub bytes: u64,
}

impl DeadLetterNote {
    /// The parsed id, for reading on from there.
    pub fn entry_id(&self) -> EntryId {
        EntryId::parse(self.id.as_bytes()).unwrap_or_default()
    }
}

impl Control {
    /// The latest dead letters of a stream, or those before `before`, newest first. At most 20, and
    /// fewer if they are large; none only if there are no more. The frames are not transferred.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn dead_letters(
        &mut self,
        stream: &str,
        before: Option<EntryId>,
    ) -> Result<Vec<DeadLetterNote>, Fault> {
        let from = before.map_or_else(|| "+".into(), |before| format!("({before}"));
        self.notes(stream, "XREVRANGE", [&from, "-"])
    }

    /// The dead letters from `first` on, oldest first.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn dead_letters_from(
        &mut self,
        stream: &str,
        first: EntryId,
    ) -> Result<Vec<DeadLetterNote>, Fault> {
        self.notes(stream, "XRANGE", [&first.to_string(), "+"])
    }

    fn notes(
        &mut self,
        stream: &str,
        command: &'static str,
        [from, to]: [&str; 2],
    ) -> Result<Vec<DeadLetterNote>, Fault> {
        let mut script = cmd("EVAL");
        script.arg(SCRIPT).arg(1).arg(stream).arg(command).arg(from).arg(to);
        script.arg(ENTRIES_MAX).arg(BYTES_MAX).arg(VALUE_MAX);
        for field in FIELDS {
            script.arg(field);
        }
        let found: Vec<Vec<Vec<u8>>> = self.run_on(stream, command, &script)?;
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
