//! The streams of a shard.

use super::slot::slot_of;

/// Something for each of the three streams of a shard, by default its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams<T = String> {
    /// Of the stream that producers write.
    pub input: T,
    /// Of the stream for results.
    pub output: T,
    /// Of the stream for dead letters.
    pub dead_letters: T,
}

impl Streams {
    /// The streams of a shard with this input and output. Its dead letters are in the input stream's
    /// [`dead_letters_of`].
    pub fn new(input: impl Into<String>, output: impl Into<String>) -> Streams {
        let (input, output) = (input.into(), output.into());
        Streams { dead_letters: dead_letters_of(&input), input, output }
    }

    /// Whether the streams are in several hash slots of a Cluster.
    pub fn is_apart(&self) -> bool {
        let slot = slot_of(&self.input);
        self.all().iter().any(|stream| slot_of(stream) != slot)
    }
}

impl<T> Streams<T> {
    /// Input, output, dead letters.
    pub fn all(&self) -> [&T; 3] {
        [&self.input, &self.output, &self.dead_letters]
    }

    /// Input, output, dead letters.
    pub fn all_mut(&mut self) -> [&mut T; 3] {
        [&mut self.input, &mut self.output, &mut self.dead_letters]
    }

    /// What `change` makes of each.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Streams<U> {
        Streams {
            input: change(self.input),
            output: change(self.output),
            dead_letters: change(self.dead_letters),
        }
    }
}

/// Name of the stream that holds the dead letters of `stream`.
pub fn dead_letters_of(stream: &str) -> String {
    format!("{stream}:dlq")
}

/// The hash in which `ingest` publishes the state of its cameras: one field per camera, JSON, with
/// `until` in seconds since the Unix epoch.
pub fn status_key(input: &str) -> String {
    format!("{input}:ingest")
}
