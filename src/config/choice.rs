//! The settings that are one word out of a few, each an enum with its words.
//!
//! Words are compared without regard to case, because the Kafka-era files wrote some of them in
//! capitals.

use std::fmt;

use crate::redis::{Delivery, Retention};

/// A setting with a short list of legal words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every value, in the order the documentation names them.
    const ALL: &'static [Self];

    /// The word written in configuration files.
    fn name(self) -> &'static str;

    /// Other words that files have for it.
    fn aliases(self) -> &'static [&'static str];

    /// The value of a word, in any case; `None` if it is not one of them.
    fn from_name(word: &str) -> Option<Self> {
        let is_named = |value: &Self| {
            let mut words = [value.name()].into_iter().chain(value.aliases().iter().copied());
            words.any(|name| name.eq_ignore_ascii_case(word))
        };
        Self::ALL.iter().copied().find(is_named)
    }
}

/// Makes an enum a [`Choice`].
macro_rules! words {
    ($name:ty { $($variant:ident = $word:literal $(| $alias:literal)*,)+ }) => {
        impl Choice for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            fn aliases(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$($alias),*],)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

/// Defines such an enum.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal $(| $alias:literal)*,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        words! { $name { $($variant = $word $(| $alias)*,)+ } }
    };
}

choice! {
    /// What happens when the output stream has reached `max_queue_length`.
    OutputFull {
        /// The oldest results are trimmed away.
        TrimOldest = "trim_oldest",
        /// Reading stops until consumers catch up.
        Block = "block",
    }
}

words! {
    Delivery { ExactlyOnce = "exactly_once", AtLeastOnce = "at_least_once", }
}

choice! {
    /// Where `bridge kafka-to-redis` begins while no place is stored.
    Begin {
        /// Where the old processor's group stands; at the oldest message if it stands nowhere.
        Group = "group",
        /// The oldest message.
        Earliest = "earliest",
        /// What comes from now on.
        Latest = "latest",
    }
}

choice! {
    /// What `bridge redis-to-kafka` writes.
    ResultFormat {
        /// The fields of the old processor.
        Json = "json",
        /// The `ProcessedFrame` as it lies in Redis.
        Protobuf = "protobuf",
    }
}

choice! {
    /// Whether JSON results have the picture.
    ResultImage {
        /// They have not, as the old ones.
        None = "none",
        /// In base64.
        Base64 = "base64",
    }
}

choice! {
    /// How brokers are spoken to.
    KafkaProtocol {
        /// Neither encrypted nor authenticated.
        Plaintext = "PLAINTEXT",
        /// Encrypted.
        Ssl = "SSL",
        /// Authenticated.
        SaslPlaintext = "SASL_PLAINTEXT",
        /// Both.
        SaslSsl = "SASL_SSL",
    }
}

choice! {
    /// How the bridge authenticates itself at a broker.
    SaslMechanism {
        /// User and password as they are.
        Plain = "PLAIN",
        /// A challenge, with SHA-256.
        ScramSha256 = "SCRAM-SHA-256",
        /// A challenge, with SHA-512.
        ScramSha512 = "SCRAM-SHA-512",
    }
}

choice! {
    /// Which engines read a stream at a time.
    Assignment {
        /// Exclusive from two shards on, shared with one.
        Auto = "auto",
        /// Any number: results are stored once, but not in order across engines.
        Shared = "shared",
        /// One, under a lease: frames of a camera keep their order.
        Exclusive = "exclusive",
    }
}

words! {
    Retention { Keep = "keep", Delete = "delete", TrimAcked = "trim_acked", }
}

choice! {
    /// The form in which `ingest` sends pictures.
    FeedFormat {
        /// A camera's own JPEG files as they are, other video as JPEG.
        Auto = "auto",
        /// A camera's own JPEG files.
        Copy = "copy",
        /// JPEG.
        Jpeg = "jpeg",
        /// Lossy WebP.
        Webp = "webp",
        /// PNG.
        Png = "png",
        /// Interleaved RGB.
        Raw = "raw",
        /// Planes of luma and chroma.
        Yuv420p = "yuv420p",
    }
}

choice! {
    /// How an RTSP camera sends.
    RtspTransport {
        /// Within the connection; UDP where the camera has nothing else.
        Tcp = "tcp",
        /// In packets of their own.
        Udp = "udp",
        /// TCP and UDP alternately, until one of them delivers pictures.
        Auto = "auto",
    }
}

choice! {
    /// When a slot of a camera's frame ring is written again.
    RingReuse {
        /// Cyclically. A frame that has not been read by then is lost and counted.
        Freshest = "freshest",
        /// When its frame has ended; until then newer frames are left out.
        Lossless = "lossless",
    }
}

choice! {
    /// Hardware that decodes video.
    Hwaccel {
        /// VA-API.
        Vaapi = "vaapi",
        /// Intel Quick Sync Video.
        Qsv = "qsv",
        /// NVIDIA.
        Cuda = "cuda",
        /// Video4Linux, memory to memory.
        V4l2m2m = "v4l2m2m",
    }
}

choice! {
    /// The format of compressed output images.
    CompressionFormat {
        /// Baseline JPEG, 4:2:0.
        Jpeg = "jpeg" | "jpg",
        /// Lossless PNG.
        Png = "png",
        /// Lossy WebP.
        Webp = "webp",
    }
}

choice! {
    /// The Huffman tables of JPEG output.
    JpegHuffman {
        /// Learnt for each camera, one pass.
        Adaptive = "adaptive",
        /// Those of the standard, for receivers that take them for granted.
        Standard = "standard",
        /// The best ones for each picture, in two passes.
        Optimised = "optimised",
    }
}

choice! {
    /// In which order results leave.
    Ordering {
        /// Frames of one camera leave in the order they were read.
        PerCamera = "per_camera",
        /// As they become ready.
        None = "none",
    }
}

choice! {
    /// When JPEG input is encoded anew.
    Reencode {
        /// Every frame.
        Always = "always",
        /// Only when the target quality makes it smaller.
        WhenSmaller = "when_smaller",
        /// Never: its coefficients stay, with the best tables for them.
        Lossless = "lossless",
    }
}

choice! {
    /// What becomes of a picture whose EXIF data say that it is not upright.
    OrientationChoice {
        /// Its pixels are turned.
        Apply = "apply",
        /// It stays as it is; the result says the same of its orientation.
        Ignore = "ignore",
    }
}

choice! {
    /// What becomes of a picture that is cut off or damaged.
    DamagedImages {
        /// It is refused.
        Refuse = "refuse",
        /// What the decoder could save of it is taken, and counted.
        Accept = "accept",
    }
}

choice! {
    /// What happens to a frame below the quality threshold.
    BelowThreshold {
        /// It is sent with `validation_passed` false.
        Emit = "emit",
        /// It is acknowledged without output, and counted.
        Drop = "drop",
    }
}

choice! {
    /// How log lines are written.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

choice! {
    /// The least severe log lines written.
    LogLevel {
        /// Failures only.
        Error = "error",
        /// And what may need attention.
        Warn = "warn",
        /// And the course of events.
        Info = "info",
        /// And details for developers.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// How hard PNG output is compressed.
    PngLevelChoice {
        /// Fast and large.
        Fast = "fast",
        /// What most programs do.
        Balanced = "balanced",
        /// Slow and small.
        High = "high",
        /// As much as idle cores and the latency target allow.
        Auto = "auto",
    }
}

/// The effort of WebP output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebpMethod {
    /// As much as idle cores and the latency target allow.
    Auto,
    /// 0 (fast) to 6 (small).
    Fixed(u8),
}

impl WebpMethod {
    /// The fixed method, or `auto` when the choice is left to the engine.
    pub fn or(self, auto: u8) -> u8 {
        match self {
            WebpMethod::Auto => auto,
            WebpMethod::Fixed(method) => method,
        }
    }
}

impl fmt::Display for WebpMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WebpMethod::Auto => f.write_str("auto"),
            WebpMethod::Fixed(method) => method.fmt(f),
        }
    }
}

/// How many threads of a kind to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Chosen from the cores at hand.
    Auto,
    /// This many, at least 1.
    Fixed(usize),
}

impl Count {
    /// The fixed number, or `auto` when the choice is left to the engine.
    pub fn or(self, auto: usize) -> usize {
        match self {
            Count::Auto => auto,
            Count::Fixed(count) => count,
        }
    }
}

/// Which cores threads are pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Spread over the cores this process may use, if there is one for each.
    Auto,
    /// No pinning.
    Off,
    /// These cores, by the kernel's numbers; distinct, at least one.
    Cores(Vec<usize>),
}
