//! The consumer of the output: it reads every result, in order, before a fault can remove it, and
//! keeps the relevant fields.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framepress::internals::metrics::clock::unix_millis;
use parking_lot::{Mutex, MutexGuard};
use redis::streams::StreamRangeReply;

use super::names::Streams;
use super::node::Link;
use super::snapshot::place;
use crate::Outcome;

/// How often the output is read.
const PERIOD: Duration = Duration::from_millis(15);
/// Results per read.
const PAGE: &str = "50";

/// The kept fields of a result.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Id in the output stream.
    pub id: String,
    pub frame: String,
    /// Id in the input stream.
    pub source: String,
    /// When it was stored, in milliseconds from the start: not later than it was read.
    pub at_ms: u64,
}

/// Results so far.
#[derive(Default)]
pub struct Results {
    /// In the order of the output stream.
    pub all: Vec<Stored>,
    /// How many results each frame has.
    pub times: HashMap<String, u32>,
    /// The last entry that was read; empty at the beginning of the stream.
    last: String,
}

impl Results {
    /// Start of the next read.
    pub fn from(&self) -> String {
        if self.last.is_empty() { "-".to_owned() } else { format!("({}", self.last) }
    }

    pub fn add(&mut self, stored: Stored) {
        self.last.clone_from(&stored.id);
        *self.times.entry(stored.frame.clone()).or_default() += 1;
        self.all.push(stored);
    }

    /// The output stream starts again from empty.
    pub fn restart(&mut self) {
        self.last.clear();
    }

    pub fn has(&self, frame: &str) -> bool {
        self.times.contains_key(frame)
    }
}

/// The archive; filled by [`Collector`], and by faults that are about to remove results.
pub struct Archive {
    results: Mutex<Results>,
    /// Frames that have ended: with a result, or lost to a fault.
    settled: AtomicU64,
    rests: AtomicBool,
    began: Instant,
    /// The start in milliseconds since the Unix epoch.
    began_unix_ms: u64,
}

impl Archive {
    pub fn new(began: Instant) -> Archive {
        Archive {
            results: Mutex::default(),
            settled: AtomicU64::new(0),
            rests: AtomicBool::new(false),
            began,
            began_unix_ms: unix_millis().saturating_sub(began.elapsed().as_millis() as u64),
        }
    }

    /// When a result that was just read was stored. In topologies in which results are read long
    /// after that, clocks are not stepped, so the id gives the time.
    fn stored_ms(&self, id: &str) -> u64 {
        let millis = id.split('-').next().and_then(|millis| millis.parse().ok());
        let by_id = millis.and_then(|millis: u64| millis.checked_sub(self.began_unix_ms));
        by_id.unwrap_or(u64::MAX).min(self.now_ms())
    }

    /// Locks the archive, so that no other thread reads from the output.
    pub fn lock(&self) -> MutexGuard<'_, Results> {
        self.results.lock()
    }

    /// Number of frames for which the producer need not wait.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// Adds frames that have ended.
    pub fn settle(&self, frames: u64) {
        self.settled.fetch_add(frames, Ordering::Relaxed);
    }

    /// Pauses the collector, or resumes it.
    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::SeqCst);
    }

    pub fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Reads one page; returns the number of results. With `make_room`, removes what was read.
    pub fn read(&self, link: &mut Link, output: &str, make_room: bool) -> Outcome<usize> {
        let mut results = self.lock();
        let from = results.from();
        let page: StreamRangeReply = link.run(&["XRANGE", output, &from, "+", "COUNT", PAGE])?;
        let before = results.times.len();
        for entry in &page.ids {
            let stored = Stored {
                id: entry.id.clone(),
                frame: entry.get("frame_id").unwrap_or_default(),
                source: entry.get("source_id").unwrap_or_default(),
                at_ms: self.stored_ms(&entry.id),
            };
            results.add(stored);
        }
        self.settle((results.times.len() - before) as u64);
        if make_room && !results.last.is_empty() {
            // Everything that was read, by this call or by a fault.
            let (millis, number) = place(&results.last);
            let next = format!("{millis}-{}", number + 1);
            link.run::<u64>(&["XTRIM", output, "MINID", &next])?;
        }
        Ok(page.ids.len())
    }
}

/// The thread that reads; dropping the value ends it.
pub struct Collector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub fn start(
        archive: Arc<Archive>,
        mut link: Link,
        streams: &Streams,
        make_room: bool,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let output = streams.output.clone();
        let thread = std::thread::spawn(move || {
            while !flag.load(Ordering::SeqCst) {
                let rests = archive.rests.load(Ordering::SeqCst);
                // If the server is down or refuses, the loop asks again.
                let read = if rests {
                    0
                } else {
                    archive.read(&mut link, &output, make_room).unwrap_or(0)
                };
                if read == 0 {
                    std::thread::sleep(PERIOD);
                }
            }
        });
        Collector { stop, thread: Some(thread) }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
