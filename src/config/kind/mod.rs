//! Kinds of values: how a key's value is read, written, and what is valid.
//!
//! `numbers`, `words` and `text` hold single values; `network` hosts and URLs; `lists` lists of
//! these; `fields` the keys of a mapping in a list; `camera` the lists in an entry of `cameras`;
//! `optional` values that may be null.

mod camera;
mod fields;
mod lists;
mod network;
mod numbers;
mod optional;
mod text;
mod words;

pub use camera::{InputArg, RoiBox};
pub(super) use camera::{InputArgs, Required, RoiBoxes};
pub(super) use fields::MappingFields;
pub(super) use lists::each;
pub use lists::is_secret as is_secret_property;
pub(super) use lists::{Brokers, CoreList, HostList, Properties, SentinelNodes, ShardList};
pub(super) use network::{HostPortText, Url};
pub(super) use numbers::{Backoff, EffortLevel, RATE, SHARE, SizeText, SlotCount, Threads, Whole};
pub(super) use optional::{guarded, or_null};
pub(super) use text::{
    CAMERA_ID, CAMERA_SOURCE, FILE, FOLDER, NAME, PASSWORD, PEM, SECRET_FILE, SERVER_NAME, TOKEN,
    TOPIC, read_secret_file,
};
pub(super) use words::{Truth, Word};

use super::given::{Given, Parsed, Problem};
use serde_json::Value;

/// The longest ages and time-outs, in milliseconds: a week.
pub(super) const WEEK_MS: u64 = 7 * DAY_MS;
/// The longest times of a camera, in milliseconds: a day.
pub(super) const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// The longest stream, in entries.
pub(super) const ENTRIES_MAX: u64 = 1_000_000_000_000;

/// Whether secrets are written as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// As `***`.
    Hidden,
    /// As typed.
    Exposed,
}

/// How the value of a key is read and written.
pub(super) trait ValueKind<T> {
    /// The value as typed. The errors say what would be valid.
    fn read(&self, given: Given<'_>) -> Parsed<T>;

    /// The value as a file has it.
    fn write(&self, value: &T, secrets: Secrets) -> Value;

    /// What its type is called in the documentation.
    fn value_type(&self) -> String;

    /// Which values are valid, as in "a whole number from 1 to 10".
    fn valid(&self) -> String;

    /// Valid values that differ from each other.
    fn examples(&self) -> Vec<Value>;

    /// Whether the key must be there.
    fn is_required(&self) -> bool {
        false
    }

    /// The fault of a value that is not valid.
    fn fault(&self) -> Vec<Problem> {
        vec![format!("valid: {}", self.valid()).into()]
    }
}

/// Where the values of keys come from: the layers of a configuration, or one mapping of a list.
pub(super) trait KeySource {
    /// The value of the dotted `key`: as typed, or `default` where it is absent or faulty.
    fn value<T, K: ValueKind<T>>(&mut self, key: &'static str, default: T, kind: &K) -> T;
}

/// An error text as the only problem of a value.
fn problem(message: impl Into<String>) -> Vec<Problem> {
    vec![message.into().into()]
}
