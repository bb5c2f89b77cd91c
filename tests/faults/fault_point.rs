//! A sweep over the fault-injection point below the data plane: each operation of a run fails once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use framepress::internals::engine::Hooks;
use framepress::internals::metrics::clock::Tick;
use framepress::internals::redis::{FaultPoint, Operation};

use crate::support::{LONG, RunningEngine, Server, wait_until};

/// Frames of each run.
const FRAMES: usize = 20;

/// Most operations at which each sweep fails; of more, an even sample.
const FAILURES_MAX: u64 = 60;

/// What the fault-injection point of one run does.
#[derive(Default)]
struct Script {
    /// Operations so far.
    count: AtomicU64,
    /// The operation that fails, counted from 1; 0 for none.
    fails_at: u64,
    /// Whether all operations after it fail as well.
    for_good: bool,
    failed: AtomicBool,
}

impl Script {
    fn hooks(self: &Arc<Script>) -> Hooks {
        let script = Arc::clone(self);
        Hooks {
            fault_point: FaultPoint::new(move |operation| script.check(operation)),
            ..Hooks::default()
        }
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let fails = self.fails_at > 0
            && (number == self.fails_at || (self.for_good && number > self.fails_at));
        if !fails {
            return Ok(());
        }
        self.failed.store(true, Ordering::SeqCst);
        Err(io::Error::other(format!("{operation:?} number {number} was made to fail")))
    }
}

/// Runs an engine until all frames are done or an operation has failed, then stops it.
fn run(server: &Server, script: &Arc<Script>, flags: &[(&str, &str)]) {
    // The engine sees an injected failure at once, so it needs no short timeout. A short one would
    // add real failures on a slow machine.
    let mut all = vec![
        ("redis_queue.batch_size", "4"),
        ("redis_queue.block_time_ms", "1000"),
        ("redis_queue.timeout", "30"),
    ];
    all.extend(flags);
    let engine = RunningEngine::start(&server.url(), &all, script.hooks());
    let heals = !script.for_good;
    wait_until("the end of the run", LONG, || {
        server.is_done() || (!heals && script.failed.load(Ordering::SeqCst))
    });
    engine.signal().drain();
    // If the fault is permanent, the engine ends with it, but still in time.
    let (result, _) = engine.wait(LONG);
    if heals {
        assert!(result.is_ok(), "{result:?}");
    } else if let Err(fault) = result {
        assert!(fault.to_string().contains("was made to fail"), "the true cause: {fault}");
    }
}

/// The lowest count of three runs, as a slow machine adds operations.
fn operations_of_a_run(server: &mut Server) -> u64 {
    let runs = (0..3).map(|_| {
        let script = Arc::new(Script::default());
        server.clear();
        server.add(FRAMES);
        run(server, &script, &[]);
        server.assert_every_frame_once();
        script.count.load(Ordering::SeqCst)
    });
    runs.min().unwrap_or_default()
}

/// Fails each operation in a separate run; `check` inspects the server after each.
fn sweep(for_good: bool, flags: &[(&str, &str)], check: impl Fn(&mut Server)) {
    let began = Tick::now();
    let mut server = Server::start();
    let operations = operations_of_a_run(&mut server);
    assert!(operations > 15, "two connections, and some reads and commits: {operations}");
    let step = operations.div_ceil(FAILURES_MAX);
    let mut failures = 0;
    for fails_at in (1..=operations).step_by(usize::try_from(step).unwrap()) {
        let script = Arc::new(Script { fails_at, for_good, ..Script::default() });
        server.clear();
        server.add(FRAMES);
        run(&server, &script, flags);
        // Runs differ by a few operations, so the last ones may not occur.
        failures += u64::from(script.failed.load(Ordering::SeqCst));
        check(&mut server);
    }
    eprintln!("{failures} failures, of {operations} operations, in {:?}", began.elapsed());
    assert!(failures >= 10, "{failures} failures in {operations} operations");
}

#[test]
fn an_operation_that_fails_once_is_overcome() {
    sweep(false, &[], |server| server.assert_every_frame_once());
}

#[test]
fn an_engine_that_loses_its_server_leaves_the_rest_to_the_next_one() {
    let flags = [("redis_queue.retry_on_failure", "false"), ("engine.drain_timeout_ms", "500")];
    sweep(true, &flags, |server| {
        server.assert_nothing_acknowledged_without_result();
        run(server, &Arc::new(Script::default()), &[]);
        server.assert_every_frame_once();
    });
}

#[test]
fn an_engine_cut_off_for_good_ends_in_time_although_it_would_try_again() {
    let flags = [("engine.drain_timeout_ms", "100")];
    let mut server = Server::start();
    let operations = operations_of_a_run(&mut server);
    let mut failures = 0;
    for fails_at in (1..=operations).step_by(usize::try_from(operations / 8).unwrap().max(1)) {
        let script = Arc::new(Script { fails_at, for_good: true, ..Script::default() });
        server.clear();
        server.add(FRAMES);
        run(&server, &script, &flags);
        failures += u64::from(script.failed.load(Ordering::SeqCst));
        server.assert_nothing_acknowledged_without_result();
        run(&server, &Arc::new(Script::default()), &[]);
        server.assert_every_frame_once();
    }
    assert!(failures > 3, "{failures} failures in {operations} operations");
}
