//! With a committer that cannot go on, an engine stops reading at a number that is known.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use framepress::base::limits;
use framepress::engine::Hooks;
use framepress::image::Format;
use redis::cmd;

use crate::support::{LONG, OUTPUT, RunningEngine, Server, picture, wait_until};

/// Commits nothing: the output stream is full before the first result.
const FULL: [(&str, &str); 2] =
    [("redis_queue.output_full", "block"), ("redis_queue.max_queue_length", "1")];

/// Long enough for a frame too many to be read.
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
        // read lane + every slot (in work, at a gate, in a commit lane or in the committer's
        // batch) + the frame the dispatcher holds while it waits for a slot + the frame the
        // reader holds while it waits for room in the lane
        let sum = limits::READ_LANE_FRAMES + engine.view.plan.slots + 1 + 1;
        wait_until("the engine is full", LONG, || engine.account().read >= sum as u64);
        std::thread::sleep(WHILE);
        let account = engine.account();
        assert_eq!((account.read, account.in_flight), (sum as u64, sum as u64), "{account:?}");
        assert_eq!(account.out, 0, "nothing went out");

        // A consumer that takes results away sets it going, and still each comes once.
        let mut seen = BTreeSet::new();
        wait_until("all results taken away", LONG, || {
            let mut connection = server.connect();
            for output in server.outputs() {
                let took = cmd("XDEL").arg(OUTPUT).arg(&output.entry).query::<u64>(&mut connection);
                assert_eq!(took.unwrap(), 1);
                assert!(seen.insert(output.frame_id.clone()), "{} twice", output.frame_id);
            }
            if seen.is_empty() {
                empty_output(&server);
            }
            seen.len() == 100
        });
        let account = engine.stop();
        assert_eq!((account.read, account.out), (100, 100), "{account:?}");
    }
}

#[test]
fn large_raw_frames_in_large_batches_stay_within_the_budget() {
    const BUDGET: usize = 64 << 20;
    let mut server = Server::start();
    // 6.2 MB each: a batch of 50 would be 311 MB.
    server.add_pictures(24, &picture(Format::Raw, 1920, 1080));
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
    let (leased, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Looks as often as it can; the budget is an invariant, so no moment may break it.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let usage = engine.view.pool.usage();
                leased.fetch_max(usage.leased_bytes, Ordering::Relaxed);
                held.fetch_max(usage.leased_bytes + usage.idle_bytes, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        // First with a committer that stands still, until reading has stopped; then without.
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
        done.store(true, Ordering::Relaxed);
    });
    let peak = [&leased, &held].map(|peak| peak.load(Ordering::Relaxed));
    eprintln!("leased at most {} and held at most {} of {BUDGET} bytes", peak[0], peak[1]);
    assert!(peak[0] > BUDGET / 4, "frames were in work: {peak:?}");
    assert!(peak.iter().all(|&bytes| bytes <= BUDGET), "{peak:?}");
    let account = engine.stop();
    assert_eq!((account.read, account.out), (24, 24), "{account:?}");
}
