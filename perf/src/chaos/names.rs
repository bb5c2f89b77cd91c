//! Names of the streams, the group and the engines' account.

/// The consumer group.
pub const GROUP: &str = "stream_processor";
/// The account of the engines, and its two passwords.
pub const USER: &str = "engine";
pub const PASSWORD: &str = "chaos-one";
pub const OTHER_PASSWORD: &str = "chaos-two";

/// The streams of an episode.
#[derive(Clone, Debug)]
pub struct Streams {
    pub input: String,
    pub output: String,
    pub dead_letters: String,
}

impl Streams {
    /// `input` and its dependent streams; in a Cluster with one hash tag.
    pub fn new(in_cluster: bool) -> Streams {
        let [input, output] = if in_cluster {
            ["{chaos}:frames", "{chaos}:results"]
        } else {
            ["camera_frames", "processed_frames"]
        };
        Streams {
            input: input.to_owned(),
            output: output.to_owned(),
            dead_letters: format!("{input}:dlq"),
        }
    }
}
