//! Shared by all topology tests: servers in all deployments, an engine, a load, and waiting for a
//! condition.

mod certificates;
mod cluster;
mod engine;
mod load;
mod process;
mod sentinel;
mod server;

pub use certificates::Certificates;
pub use cluster::Cluster;
pub use engine::{RunningEngine, config, start_fault};
pub use load::{Load, frame, picture, producer};
pub use process::Process;
pub use sentinel::{DOWN_AFTER_MS, SERVICE, Sentinels, black_hole};
pub use server::{Server, free_port};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use framepress::internals::frame::EntryId;
use framepress::internals::metrics::clock::Tick;
use redis::streams::StreamRangeReply;
use redis::{Connection, cmd};

/// Longer than any wait in a healthy test, also on a busy machine.
pub const LONG: Duration = Duration::from_secs(180);

pub const INPUT: &str = "camera_frames";
pub const OUTPUT: &str = "processed_frames";
pub const GROUP: &str = "stream_processor";

/// Waits until `condition` holds; fails with `what` after [`LONG`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Tick::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The ids of a stream's entries.
pub fn ids(connection: &mut Connection, stream: &str) -> BTreeSet<String> {
    let reply: StreamRangeReply =
        cmd("XRANGE").arg(stream).arg("-").arg("+").query(connection).unwrap();
    reply.ids.into_iter().map(|entry| entry.id).collect()
}

/// The distinct frame ids in a stream.
pub fn frame_ids(connection: &mut Connection, stream: &str) -> BTreeSet<String> {
    let reply: StreamRangeReply =
        cmd("XRANGE").arg(stream).arg("-").arg("+").query(connection).unwrap();
    reply.ids.iter().filter_map(|entry| entry.get("frame_id")).collect()
}

/// How many results each entry has.
pub fn results(connection: &mut Connection, output: &str) -> BTreeMap<String, usize> {
    let reply: StreamRangeReply =
        cmd("XRANGE").arg(output).arg("-").arg("+").query(connection).unwrap();
    let mut results = BTreeMap::new();
    for entry in reply.ids {
        let source: String = entry.get("source_id").expect("a result names its entry");
        *results.entry(source).or_default() += 1;
    }
    results
}

/// How many results come after one of a later entry of the same camera.
pub fn out_of_order(connection: &mut Connection, output: &str) -> usize {
    let reply: StreamRangeReply =
        cmd("XRANGE").arg(output).arg("-").arg("+").query(connection).unwrap();
    let mut last = BTreeMap::<String, EntryId>::new();
    let mut count = 0;
    for entry in reply.ids {
        let camera: String = entry.get("camera_id").expect("a result names its camera");
        let source: String = entry.get("source_id").expect("a result names its entry");
        let source = EntryId::parse(source.as_bytes()).expect("an entry has an id");
        let before = last.entry(camera).or_default();
        count += usize::from(source < *before);
        *before = source.max(*before);
    }
    count
}

/// The longest time between two results of one camera, by the server's clock.
pub fn longest_gap(connection: &mut Connection, outputs: &[String]) -> Duration {
    let mut longest = 0;
    for output in outputs {
        let reply: StreamRangeReply =
            cmd("XRANGE").arg(output).arg("-").arg("+").query(connection).unwrap();
        let mut last = BTreeMap::<String, u64>::new();
        for entry in reply.ids {
            let camera: String = entry.get("camera_id").expect("a result names its camera");
            let at = EntryId::parse(entry.id.as_bytes()).expect("an entry has an id").millis;
            let before = last.insert(camera, at).unwrap_or(at);
            longest = longest.max(at.saturating_sub(before));
        }
    }
    Duration::from_millis(longest)
}

/// Whether every entry of a stream has been read and acknowledged, according to the server that
/// answers.
pub fn is_done(connection: &mut Connection, input: &str) -> bool {
    let groups: redis::RedisResult<redis::streams::StreamInfoGroupsReply> =
        cmd("XINFO").arg("GROUPS").arg(input).query(connection);
    let Ok(groups) = groups else { return false };
    let Some(ours) = groups.groups.into_iter().find(|group| group.name == GROUP) else {
        return false;
    };
    let mut last = cmd("XREVRANGE");
    let last: redis::RedisResult<StreamRangeReply> =
        last.arg(input).arg("+").arg("-").arg("COUNT").arg(1).query(connection);
    let last = last.ok().and_then(|reply| reply.ids.into_iter().next());
    ours.pending == 0 && last.is_none_or(|entry| entry.id == ours.last_delivered_id)
}

/// The promise: every entry of `input` has exactly one result in `output`, and every result has an
/// entry. Returns the count.
#[track_caller]
pub fn assert_every_entry_once(
    (input_at, input): (&mut Connection, &str),
    (output_at, output): (&mut Connection, &str),
) -> usize {
    let entries = ids(input_at, input);
    let results = results(output_at, output);
    let twice: Vec<_> = results.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{output}: stored more than once: {twice:?}");
    let results: BTreeSet<String> = results.into_keys().collect();
    let lost: Vec<_> = entries.difference(&results).collect();
    assert!(
        lost.is_empty(),
        "{input}: {} of {} without result: {lost:?}",
        lost.len(),
        entries.len()
    );
    let strange: Vec<_> = results.difference(&entries).collect();
    assert!(strange.is_empty(), "{output}: results of no entry: {strange:?}");
    entries.len()
}
