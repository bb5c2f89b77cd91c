//! The short sections: `limits`, `analysis`, `ring`, `stats` and `log`.

use super::{FIRST, SECOND, section};
use crate::config::choice::{BelowThreshold, DamagedImages, LogFormat, LogLevel};
use crate::config::kind::{
    FOLDER, HostList, HostPortText, SHARE, TOKEN, Truth, Whole, Word, guarded, or_null,
};
use crate::config::secret::Secret;
use crate::config::url::HostPort;
use crate::ring::default_folder;
use std::path::PathBuf;

/// Largest entry body: protobuf allows no larger message.
const PAYLOAD_BYTES_MAX: u64 = (1 << 31) - 1;
/// Most pixels of an image: 32768 x 32768.
const PIXELS_MAX: u64 = 1 << 30;
/// Longest time between two summaries in the log: a day.
const SUMMARY_SECONDS_MAX: u64 = 86_400;

section! {
    /// Section `limits`: sizes above which a frame is refused.
    LimitsConfig in "limits." {
        /// Largest entry body accepted.
        max_payload_bytes: usize = 64 << 20 => Whole(1..=PAYLOAD_BYTES_MAX), unit: "bytes",
            reload: no, since: FIRST;
        /// Largest image accepted, width times height. The default is 8K UHD.
        max_pixels: u64 = 7_680 * 4_320 => Whole(1..=PIXELS_MAX), unit: "pixels", reload: no, since: FIRST;
        /// What the engine does with a picture that is cut off or damaged.
        damaged_images: DamagedImages = DamagedImages::Refuse => Word, reload: yes, since: SECOND;
    }
    sections {}
    beside {}
}

section! {
    /// Section `analysis`: the figures of a frame, and extra images.
    AnalysisConfig in "analysis." {
        /// Whether figures are computed at all.
        enabled: bool = true => Truth, reload: no, since: FIRST;
        /// Quality score below which `validation_passed` is false.
        quality_threshold: f64 = 0.0 => SHARE, reload: yes, since: FIRST;
        /// What happens to a frame below the threshold.
        below_threshold: BelowThreshold = BelowThreshold::Emit => Word, reload: yes, since: FIRST;
        /// Whether results carry a letterboxed image of 640x640 pixels.
        ml_image: bool = false => Truth, reload: yes, since: FIRST;
        /// Whether results carry a thumbnail of 128x128 pixels.
        thumbnail: bool = false => Truth, reload: yes, since: FIRST;
    }
    sections {}
    beside {}
}

section! {
    /// Section `ring`: frames whose pixels lie in shared memory.
    RingConfig in "ring." {
        /// The folder of frame rings. With null it is the folder that systemd makes for the service,
        /// else the user's own, else `/run/framepress`.
        dir: Option<PathBuf> = None => guarded(FOLDER), reload: no, since: SECOND;
    }
    sections {}
    beside {}
}

impl RingConfig {
    /// The folder of frame rings.
    pub fn folder(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(default_folder)
    }
}

section! {
    /// Section `stats`: the HTTP server.
    StatsConfig in "stats." {
        /// The address of the HTTP server; null means no server, port 0 any free port.
        addr: Option<HostPort> = Some(HostPort::local(8080)) => or_null(HostPortText), reload: no, since: FIRST;
        /// The bearer token for every page but `/livez` and `/readyz`.
        token: Option<Secret> = None => guarded(TOKEN), reload: no, since: FIRST;
        /// Host names under which browsers may ask, besides addresses and `localhost`.
        hosts: Vec<String> = Vec::new() => HostList, reload: no, since: SECOND;
    }
    sections {}
    beside {}
}

section! {
    /// Section `log`: log lines on standard error.
    LogConfig in "log." {
        /// The least severe lines written.
        level: LogLevel = LogLevel::Info => Word, reload: yes, since: FIRST;
        /// The form of log lines.
        format: LogFormat = LogFormat::Text => Word, reload: no, since: FIRST;
        /// How often the engine logs a summary; 0 means never.
        summary_seconds: u64 = 60 => Whole(0..=SUMMARY_SECONDS_MAX), unit: "s", reload: yes, since: FIRST;
    }
    sections {}
    beside {}
}
