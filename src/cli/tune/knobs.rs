//! The settings that can be tuned, and their candidates.

use super::Goal;
use crate::base::threads;
use crate::config::{CompressionFormat, Config, Count, Ordering, Pin, WebpMethod};

/// One key, or two keys that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knob {
    Workers,
    Committers,
    Readers,
    BatchSize,
    Pin,
    InflightBytes,
    /// Format and effort, because WebP can be smaller than JPEG.
    Webp,
}

/// All knobs in the order of tuning; the most important come first.
pub(super) const ALL: [Knob; 7] = [
    Knob::Webp,
    Knob::Workers,
    Knob::Committers,
    Knob::Readers,
    Knob::BatchSize,
    Knob::Pin,
    Knob::InflightBytes,
];

impl Knob {
    pub(super) fn name(self) -> &'static str {
        match self {
            Knob::Workers => "engine.workers",
            Knob::Committers => "engine.committers",
            Knob::Readers => "engine.readers",
            Knob::BatchSize => "redis_queue.batch_size",
            Knob::Pin => "engine.pin",
            Knob::InflightBytes => "engine.max_inflight_bytes",
            Knob::Webp => "redis_queue.webp_method",
        }
    }

    /// The present value as text.
    pub(super) fn value(self, config: &Config) -> String {
        match self {
            Knob::Workers => count(config.engine.workers),
            Knob::Committers => count(config.engine.committers),
            Knob::Readers => count(config.engine.readers),
            Knob::BatchSize => config.redis_queue.batch_size.to_string(),
            Knob::Pin => match &config.engine.pin {
                Pin::Auto => "auto".into(),
                Pin::Off => "off".into(),
                Pin::Cores(cores) => format!("{cores:?}"),
            },
            Knob::InflightBytes => config.engine.max_inflight_bytes.to_string(),
            Knob::Webp => match config.redis_queue.compression_format {
                CompressionFormat::Webp => config.redis_queue.webp_method.to_string(),
                other => other.to_string(),
            },
        }
    }

    /// The candidate settings. More than one reader would mix up the frames of a camera, so this is
    /// tried only if order does not matter.
    pub(super) fn candidates(self, config: &Config, goal: Goal) -> Vec<Config> {
        let with = |change: &dyn Fn(&mut Config)| {
            let mut other = config.clone();
            change(&mut other);
            other
        };
        let cores = threads::parallelism();
        match self {
            Knob::Webp => webp(config, goal),
            // Nothing else changes the size of a result.
            _ if goal == Goal::Bandwidth => Vec::new(),
            Knob::Workers => distinct([cores.saturating_sub(1), cores + 1, 2 * cores], cores)
                .map(|count| with(&|other| other.engine.workers = Count::Fixed(count)))
                .collect(),
            Knob::Committers => {
                vec![with(&|other| other.engine.committers = Count::Fixed(2))]
            }
            Knob::Readers if config.engine.ordering == Ordering::None => {
                vec![with(&|other| other.engine.readers = Count::Fixed(2))]
            }
            Knob::Readers => Vec::new(),
            Knob::BatchSize => distinct([4, 100], config.redis_queue.batch_size)
                .map(|size| with(&|other| other.redis_queue.batch_size = size))
                .collect(),
            Knob::Pin => {
                // Besides the workers there are one reading, one dispatching and one committing
                // thread.
                let has_core_each = cores >= config.engine.workers.or(cores) + 3;
                // The alternative to what `auto` does here.
                let other = match (&config.engine.pin, has_core_each) {
                    (Pin::Off | Pin::Cores(_), _) => Pin::Auto,
                    (Pin::Auto, true) => Pin::Off,
                    (Pin::Auto, false) => Pin::Cores(threads::allowed_cores()),
                };
                vec![with(&|config| config.engine.pin = other.clone())]
            }
            Knob::InflightBytes => {
                distinct([64 << 20, 512 << 20], config.engine.max_inflight_bytes)
                    .map(|bytes| with(&|other| other.engine.max_inflight_bytes = bytes))
                    .collect()
            }
        }
    }
}

/// Efforts for WebP, if the format is WebP; for the goal bandwidth, also WebP instead of other
/// formats.
fn webp(config: &Config, goal: Goal) -> Vec<Config> {
    let queue = &config.redis_queue;
    let is_webp = queue.compression_format == CompressionFormat::Webp;
    if !is_webp && goal != Goal::Bandwidth {
        return Vec::new();
    }
    let methods = [0, 1, 2, 4]
        .into_iter()
        .filter(|method| !is_webp || WebpMethod::Fixed(*method) != queue.webp_method);
    methods
        .map(|method| {
            let mut other = config.clone();
            other.redis_queue.compression_format = CompressionFormat::Webp;
            other.redis_queue.webp_method = WebpMethod::Fixed(method);
            other
        })
        .collect()
}

fn count(count: Count) -> String {
    match count {
        Count::Auto => "auto".into(),
        Count::Fixed(count) => count.to_string(),
    }
}

/// Each value once, without 0 and the present value.
fn distinct(values: impl IntoIterator<Item = usize>, now: usize) -> impl Iterator<Item = usize> {
    let mut values: Vec<usize> = values.into_iter().collect();
    values.retain(|value| *value > 0 && *value != now);
    values.dedup();
    values.into_iter()
}
