//! Section `engine`.

use super::{FIRST, SECOND, section};
use crate::config::choice::{Count, Ordering, OrientationChoice, Pin, Reencode};
use crate::config::kind::{CoreList, Threads, WEEK_MS, Whole, Word};

/// Most threads of one kind.
const THREADS_MAX: u64 = 1_024;
/// Highest core number.
const CORE_MAX: u64 = 1_023;
/// Most bytes in flight: 1 TiB.
const INFLIGHT_BYTES_MAX: u64 = 1 << 40;

section! {
    /// Section `engine`: threads, order and re-encoding.
    EngineConfig in "engine." {
        /// Threads that read from Redis.
        readers: Count = Count::Auto => Threads(THREADS_MAX), reload: no, since: FIRST;
        /// Threads that analyse and encode.
        workers: Count = Count::Auto => Threads(THREADS_MAX), reload: no, since: FIRST;
        /// Threads that write results.
        committers: Count = Count::Auto => Threads(THREADS_MAX), reload: no, since: FIRST;
        /// The cores that threads are pinned to. With `auto`, each thread gets a core of its own if
        /// there are enough of them.
        pin: Pin = Pin::Auto => CoreList(CORE_MAX), reload: no, since: FIRST;
        /// Most bytes of frames between reading and commit. At least `limits.max_payload_bytes`.
        max_inflight_bytes: usize = 256 << 20 => Whole(1..=INFLIGHT_BYTES_MAX), unit: "bytes",
            reload: no, since: FIRST;
        /// The order of results.
        ordering: Ordering = Ordering::PerCamera => Word, reload: no, since: FIRST;
        /// When a JPEG frame is encoded again.
        reencode: Reencode = Reencode::Always => Word, reload: yes, since: FIRST;
        /// What the engine does with the orientation in a picture's EXIF data.
        orientation: OrientationChoice = OrientationChoice::Apply => Word, reload: yes, since: SECOND;
        /// Longest drain after a stop request. What is in flight after it stays pending in Redis; 0
        /// leaves all of it there.
        drain_timeout_ms: u64 = 5_000 => Whole(0..=WEEK_MS), unit: "ms", reload: no, since: FIRST;
        /// The 99th percentile of the time for a frame that `webp_method: auto`, `png_level: auto` and
        /// `tune --goal bandwidth` keep.
        latency_target_ms: u64 = 100 => Whole(1..=WEEK_MS), unit: "ms", reload: yes, since: SECOND;
        /// Most cameras whose state is kept.
        max_concurrent_streams: usize = 1_000 => Whole(1..=1_000_000), unit: "cameras",
            reload: no, since: FIRST;
    }
    sections {}
    beside {}
}
