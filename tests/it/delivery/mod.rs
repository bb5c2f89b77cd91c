//! The delivery promise: each frame once, none lost, whatever happens to the engine, to other
//! engines and to Redis.

mod answers;
mod clocks;
mod disturbed;
mod large;
mod lost_group;
mod neighbours;
mod pressure;
mod refused;
mod retention;
mod snapshots;
mod waiting;

use std::time::Duration;

use crate::support::{RedisServer, RunningEngine};

/// An engine in the middle of `frames` frames of three cameras: some are stored, some are being
/// processed, most are unread.
#[track_caller]
fn engine_in_work(server: &RedisServer, frames: usize) -> RunningEngine {
    // A disturbance may add one to the delivery count of every entry.
    let flags = [("redis_queue.retry_attempts", "100"), ("redis_queue.claim_idle_ms", "1000")];
    let engine = RunningEngine::probed(server, &flags, |_| {
        std::thread::sleep(Duration::from_millis(5));
    });
    let cameras = ["a", "b", "c"];
    for (index, camera) in cameras.into_iter().enumerate() {
        server.add_frames(camera, (frames + index) / cameras.len());
    }
    server.wait_for_outputs(20);
    engine
}

/// Waits until every frame has one result, and checks that the engine's account agrees.
#[track_caller]
fn finish(server: &RedisServer, engine: RunningEngine, frames: usize) {
    server.wait_for_outputs(frames);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert!(server.dead_letters().is_empty(), "a disturbance is not the frames' fault");
    let account = engine.stop();
    // Some frames may be read twice; the second result is fenced off or given up.
    let lost = account.lost_to_trim + account.rejected + account.shed;
    assert_eq!((account.out, lost), (frames as u64, 0), "{account:?}");
}
