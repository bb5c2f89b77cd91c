//! State of each camera, for metrics, pages, and the hash in Redis.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::metrics::clock::{Tick, unix_seconds};

/// State of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Configured but not read.
    Disabled,
    /// Being opened.
    Connecting,
    /// Delivering pictures.
    Live,
    /// Pictures have stopped or no longer change.
    Stalled,
    /// Waiting after a failure.
    Backoff,
    /// The camera rejected the account.
    AuthFailed,
}

impl State {
    /// Every state.
    pub const ALL: [State; 6] = [
        State::Disabled,
        State::Connecting,
        State::Live,
        State::Stalled,
        State::Backoff,
        State::AuthFailed,
    ];

    /// The name in metrics and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            State::Disabled => "disabled",
            State::Connecting => "connecting",
            State::Live => "live",
            State::Stalled => "stalled",
            State::Backoff => "backoff",
            State::AuthFailed => "auth_failed",
        }
    }
}

/// The outcome of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Stored in the stream.
    Sent,
    /// Skipped to keep the configured frame rate.
    SampledOut,
    /// Dropped: a newer frame replaced it, or Redis or the ring refused it.
    Superseded,
    /// Could not be decoded.
    DecodeError,
}

impl SendOutcome {
    /// Every outcome.
    pub const ALL: [SendOutcome; 4] = [
        SendOutcome::Sent,
        SendOutcome::SampledOut,
        SendOutcome::Superseded,
        SendOutcome::DecodeError,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            SendOutcome::Sent => "sent",
            SendOutcome::SampledOut => "sampled_out",
            SendOutcome::Superseded => "superseded",
            SendOutcome::DecodeError => "decode_error",
        }
    }
}

/// Names of all metric series of `ingest`.
pub const SERIES: [&str; 8] = [
    "framepress_ingest_camera_state",
    "framepress_ingest_frames_total",
    "framepress_ingest_restarts_total",
    "framepress_ingest_last_frame_timestamp_seconds",
    "framepress_ingest_frame_age_seconds",
    "framepress_ingest_bytes_total",
    "framepress_ingest_child_cpu_seconds_total",
    "framepress_ingest_hwaccel_fallbacks_total",
];

/// Upper bounds of the histogram of ages, in seconds.
pub const AGE_BOUNDS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// State of one camera, shared between its reader, the sender and the servers that show it.
#[derive(Debug)]
pub struct IngestStatus {
    /// Camera id.
    pub id: String,
    outcomes: [AtomicU64; 4],
    bytes: AtomicU64,
    /// Frames sent, by age from arrival to Redis; the last count is above every bound.
    ages: [AtomicU64; AGE_BOUNDS.len() + 1],
    age_micros: AtomicU64,
    more: Mutex<More>,
    touched: Mutex<Tick>,
    wait_max: Duration,
}

#[derive(Clone, Debug)]
struct More {
    state: State,
    since: f64,
    error: Option<String>,
    restarts: BTreeMap<&'static str, u64>,
    last_frame: Option<f64>,
    /// Arrivals of the last frames, for the rate.
    recent: std::collections::VecDeque<f64>,
    size: (u32, u32),
    codec: Option<String>,
    source: String,
    hwaccel_fallbacks: u64,
    child_cpu: f64,
    picture: Option<std::sync::Arc<[u8]>>,
    /// Whether a picture is kept every second, not only while a page shows it.
    is_kept: bool,
    /// When a page last asked for the picture.
    watched: Option<Tick>,
}

/// How long after its last request a page still counts as showing the picture.
const WATCHED_FOR: Duration = Duration::from_secs(10);

/// Number of arrivals from which the rate is computed.
const RECENT: usize = 32;

impl IngestStatus {
    /// A camera that is not opened yet; `wait_max` is the longest wait of its thread.
    pub fn new(id: &str, state: State, wait_max: Duration) -> IngestStatus {
        IngestStatus {
            id: id.into(),
            outcomes: Default::default(),
            bytes: AtomicU64::new(0),
            ages: Default::default(),
            age_micros: AtomicU64::new(0),
            touched: Mutex::new(Tick::now()),
            wait_max,
            more: Mutex::new(More {
                state,
                since: unix_seconds(),
                error: None,
                restarts: BTreeMap::new(),
                last_frame: None,
                recent: std::collections::VecDeque::with_capacity(RECENT),
                size: (0, 0),
                codec: None,
                source: String::new(),
                hwaccel_fallbacks: 0,
                child_cpu: 0.0,
                picture: None,
                is_kept: false,
                watched: None,
            }),
        }
    }

    /// Records a sign of life of the camera's thread.
    pub(super) fn touch(&self) {
        *self.touched.lock() = Tick::now();
    }

    /// The longest wait of its thread.
    pub(super) fn wait_max(&self) -> Duration {
        self.wait_max
    }

    /// Time since the last sign of life; zero for a disabled camera, which has no thread.
    pub(super) fn silence(&self) -> Duration {
        match self.state().0 {
            State::Disabled => Duration::ZERO,
            _ => self.touched.lock().elapsed(),
        }
    }

    /// Sets the state; returns whether it changed.
    pub(super) fn enter(&self, state: State) -> bool {
        let mut more = self.more.lock();
        let changed = more.state != state;
        if changed {
            (more.state, more.since) = (state, unix_seconds());
            more.recent.clear();
        }
        changed
    }

    pub(super) fn fail(&self, reason: &'static str, text: &str) {
        let mut more = self.more.lock();
        *more.restarts.entry(reason).or_default() += 1;
        more.error = Some(text.into());
    }

    pub(super) fn opens(&self, shown: &str) {
        self.more.lock().source = shown.into();
    }

    pub(super) fn arrived(&self, at: f64, size: (u32, u32), codec: Option<&str>) {
        let mut more = self.more.lock();
        more.last_frame = Some(at);
        more.size = size;
        if more.recent.len() == RECENT {
            more.recent.pop_front();
        }
        more.recent.push_back(at);
        if more.codec.as_deref() != codec {
            more.codec = codec.map(str::to_owned);
        }
    }

    pub(super) fn hardware_failed(&self) {
        self.more.lock().hwaccel_fallbacks += 1;
    }

    pub(super) fn add_cpu(&self, seconds: f64) {
        self.more.lock().child_cpu += seconds;
    }

    pub(super) fn count(&self, outcome: SendOutcome, count: u64) {
        self.outcomes[outcome as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: u64, age_seconds: f64) {
        self.count(SendOutcome::Sent, 1);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let at = AGE_BOUNDS.iter().position(|bound| age_seconds <= *bound);
        self.ages[at.unwrap_or(AGE_BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        self.age_micros.fetch_add((age_seconds * 1e6) as u64, Ordering::Relaxed);
    }

    pub(super) fn show(&self, jpeg: &[u8], is_kept: bool) {
        let mut more = self.more.lock();
        (more.picture, more.is_kept) = (Some(jpeg.into()), is_kept);
    }

    /// Whether a page currently shows the pictures.
    pub(super) fn is_watched(&self) -> bool {
        self.more.lock().watched.is_some_and(|at| at.elapsed() < WATCHED_FOR)
    }

    /// The newest picture as JPEG, about a second old at most. If a camera sends another format,
    /// pictures are made only while a page asks, so the first answer is `None`.
    pub fn picture(&self) -> Option<std::sync::Arc<[u8]>> {
        let mut more = self.more.lock();
        let was_watched = more.watched.is_some_and(|at| at.elapsed() < WATCHED_FOR);
        more.watched = Some(Tick::now());
        if !was_watched && !more.is_kept {
            more.picture = None;
        }
        more.picture.clone()
    }

    /// The state, and when it began, in seconds since the Unix epoch.
    pub fn state(&self) -> (State, f64) {
        let more = self.more.lock();
        (more.state, more.since)
    }

    /// Number of frames with an outcome.
    pub fn frames(&self, outcome: SendOutcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Bytes of the pictures sent.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Time of the last picture, in seconds since the Unix epoch.
    pub fn last_frame(&self) -> Option<f64> {
        self.more.lock().last_frame
    }

    /// Restarts by reason.
    pub fn restarts(&self) -> BTreeMap<&'static str, u64> {
        self.more.lock().restarts.clone()
    }

    /// CPU time of the camera's children, in seconds.
    pub fn child_cpu(&self) -> f64 {
        self.more.lock().child_cpu
    }

    /// Number of fallbacks from hardware to software decoding.
    pub fn hwaccel_fallbacks(&self) -> u64 {
        self.more.lock().hwaccel_fallbacks
    }

    /// The histogram of ages: cumulative counts by bound, the total count, and the sum in seconds.
    pub fn ages(&self) -> (Vec<u64>, u64, f64) {
        let mut sum = 0;
        let below = self.ages.iter().map(|count| {
            sum += count.load(Ordering::Relaxed);
            sum
        });
        let below: Vec<u64> = below.collect();
        (below, sum, self.age_micros.load(Ordering::Relaxed) as f64 / 1e6)
    }

    /// The whole state as JSON, for pages.
    pub fn json(&self) -> Value {
        let more = self.more.lock().clone();
        let fps = match (more.recent.front(), more.recent.back()) {
            (Some(first), Some(last)) if last > first => {
                (more.recent.len() - 1) as f64 / (last - first)
            }
            _ => 0.0,
        };
        let restarts: u64 = more.restarts.values().sum();
        json!({
            "camera_id": self.id,
            "state": more.state.name(),
            "since": more.since,
            "last_error": more.error,
            "fps": (fps * 100.0).round() / 100.0,
            "restarts": restarts,
            "last_frame": more.last_frame,
            "width": more.size.0,
            "height": more.size.1,
            "codec": more.codec,
            "source": more.source,
            "sent": self.frames(SendOutcome::Sent),
            "sampled_out": self.frames(SendOutcome::SampledOut),
            "superseded": self.frames(SendOutcome::Superseded),
            "decode_errors": self.frames(SendOutcome::DecodeError),
            "bytes": self.bytes(),
            "hwaccel_fallbacks": more.hwaccel_fallbacks,
        })
    }
}
