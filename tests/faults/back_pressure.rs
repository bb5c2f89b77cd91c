//! If the committer cannot continue, the engine stops reading at a known number of frames.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use framepress::internals::base::threads::{self, Identity, Role, Running};
use framepress::internals::base::{Stop, limits};
use framepress::internals::engine::Hooks;
use framepress::internals::image::Format;
use framepress::internals::wire::proto::ImageData;
use redis::cmd;

use crate::support::{LONG, OUTPUT, RunningEngine, Server, picture, wait_until};

/// Commits nothing: the output stream is full before the first result.
const FULL: [(&str, &str); 2] =
    [("redis_queue.output_full", "block"), ("redis_queue.max_queue_length", "1")];

/// Largest size of the committer's window beyond its minimum: 40 ms of frames.
const WINDOW_EXTRA_MAX: usize = 8;

/// Long enough for the reader to read a frame too many.
const WHILE: Duration = Duration::from_millis(700);

fn fill_output(server: &Server) {
    let _: String = server.ask(cmd("XADD").arg(OUTPUT).arg("*").arg("not").arg("a result"));
}

fn empty_output(server: &Server) {
    let _: () = server.ask(cmd("XTRIM").arg(OUTPUT).arg("MAXLEN").arg(0));
}

#[test]
fn a_stalled_committer_stops_reading_at_the_written_sum() {
    for workers in ["1", "2", "3"] {
        let mut server = Server::start();
        fill_output(&server);
        server.add(100);
        let mut flags = vec![("engine.workers", workers), ("redis_queue.batch_size", "50")];
        flags.extend(FULL);
        let engine = RunningEngine::start(&server.url(), &flags, Hooks::default());
        // Upper bound: the read lane, every slot (in work, at a gate or in a commit lane), the
        // window that the committer had sent before the first refusal, one frame held by the
        // dispatcher waiting for a slot, and one held by the reader waiting for the lane.
        let plan = &engine.view.plan;
        let without_window = limits::READ_LANE_FRAMES + plan.slots + 1 + 1;
        let most = without_window + plan.commit.window_frames_min + WINDOW_EXTRA_MAX;
        wait_until("the engine is full", LONG, || engine.account().read > without_window as u64);
        std::thread::sleep(WHILE);
        let account = engine.account();
        assert!(account.read <= most as u64, "{account:?}, of {most}");
        assert_eq!(account.read, account.in_flight, "{account:?}");
        std::thread::sleep(WHILE);
        assert_eq!(engine.account(), account, "it reads no more");
        assert_eq!(account.out, 0, "nothing went out");

        // When a consumer removes results, the engine continues, and each result appears once.
        empty_output(&server);
        let mut seen = BTreeSet::new();
        wait_until("all results taken away", LONG, || {
            let mut connection = server.connect();
            for output in server.outputs() {
                let took = cmd("XDEL").arg(OUTPUT).arg(&output.entry).query::<u64>(&mut connection);
                assert_eq!(took.unwrap(), 1);
                assert!(seen.insert(output.frame_id.clone()), "{} twice", output.frame_id);
            }
            seen.len() == 100
        });
        let account = engine.stop();
        assert_eq!((account.read, account.out), (100, 100), "{account:?}");
    }
}

/// Nine buffers for 6.2 MB of pixels: 7 MiB each, the next larger class. A tenth does not fit.
const BUDGET: usize = 68 << 20;

#[test]
fn large_raw_frames_in_large_batches_stay_within_the_budget() {
    // The results of eight slots fit into the 5 MiB that nine frames leave.
    let [leased, held] = peaks_with_raw_frames(&smooth());
    assert!(leased <= BUDGET && held <= BUDGET, "{leased} leased, {held} held of {BUDGET}");
}

#[test]
fn large_results_exceed_the_budget_by_no_more_than_their_slots() {
    // Results do not wait for the budget, as they would wait for frames that wait for them. But
    // each has a slot, or a place in the committer's window.
    let textured = picture(Format::Raw, 1920, 1080);
    let [leased, _] = peaks_with_raw_frames(&textured);
    let result = picture(Format::Jpeg, 1920, 1080).compressed_data.len();
    let bound = BUDGET + 2 * limits::SLOTS_MIN * (result + result / 4);
    assert!(leased <= bound, "{leased} leased of {bound}");
}

fn smooth() -> ImageData {
    let pixels = vec![128; 1920 * 1080 * 3];
    ImageData { compressed_data: pixels, ..picture(Format::Raw, 1920, 1080) }
}

/// Peak bytes leased, and peak bytes leased or kept, with a batch of 50: without the budget 311 MB.
fn peaks_with_raw_frames(image: &ImageData) -> [usize; 2] {
    let mut server = Server::start();
    server.add_pictures(24, image);
    fill_output(&server);
    let budget = BUDGET.to_string();
    let mut flags = vec![
        ("redis_queue.batch_size", "50"),
        ("redis_queue.timeout", "5"),
        ("redis_queue.claim_idle_ms", "60000"),
        ("engine.max_inflight_bytes", &*budget),
        ("limits.max_payload_bytes", "8388608"),
    ];
    flags.extend(FULL);
    let engine = RunningEngine::start(&server.url(), &flags, Hooks::default());
    // Polls without pause: the budget is an invariant, so no sample may exceed it.
    let looker = Looker::start(&engine);
    // First with a blocked committer until reading has stopped, then with a working one.
    wait_until("frames are in work", LONG, || engine.view.pool.usage().leased_bytes > BUDGET / 2);
    let mut before = 0;
    wait_until("reading has stopped", LONG, || {
        std::thread::sleep(WHILE);
        let read = engine.account().read;
        std::mem::replace(&mut before, read) == read && read > 0
    });
    let account = engine.account();
    assert_eq!(account.out, 0, "nothing went out");
    wait_until("all frames went out", LONG, || {
        empty_output(&server);
        engine.account().out == 24
    });
    let peaks = looker.peaks();
    eprintln!("leased, and leased or kept, at most {peaks:?} of {BUDGET} bytes");
    assert!(peaks[0] > BUDGET / 2, "frames were in work: {peaks:?}");
    let account = engine.stop();
    assert_eq!((account.read, account.out), (24, 24), "{account:?}");
    peaks
}

/// Samples an engine's buffer usage continuously.
struct Looker {
    peaks: Arc<[AtomicUsize; 2]>,
    stop: Stop,
    thread: Option<Running>,
}

impl Looker {
    fn start(engine: &RunningEngine) -> Looker {
        let (stop, peaks) = (Stop::default(), Arc::<[AtomicUsize; 2]>::default());
        let (signal, shared, pool) = (stop.clone(), Arc::clone(&peaks), engine.view.pool.clone());
        let identity = Identity { role: Role::Stats, index: 0, core: None };
        let thread = threads::spawn(identity, &stop, move || {
            while !signal.sleep(Duration::from_micros(200)) {
                let usage = pool.usage();
                shared[0].fetch_max(usage.leased_bytes, Ordering::Relaxed);
                shared[1].fetch_max(usage.leased_bytes + usage.idle_bytes, Ordering::Relaxed);
            }
            Ok(())
        });
        Looker { peaks, stop, thread: Some(thread.unwrap()) }
    }

    /// Peak bytes leased, and peak bytes leased or kept for the next lease.
    fn peaks(self) -> [usize; 2] {
        [0, 1].map(|index| self.peaks[index].load(Ordering::Relaxed))
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.stop.drain();
        self.thread.take();
    }
}
