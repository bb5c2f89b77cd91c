//! Every limit that is not configurable, with its reason. Sums that depend on the configuration are
//! in `engine`.

use std::time::Duration;

/// Frames between the reader and the dispatcher. Two per worker suffice for throughput; a few more
/// keep the workers busy while the reader waits for a large body.
pub const READ_LANE_FRAMES: usize = 8;

/// Frames being worked on or waiting for their commit, per worker: one in work, one waiting, and
/// two more so that a batch can form while the committer waits for Redis.
pub const SLOTS_PER_WORKER: usize = 4;

/// Fewest slots of an engine, so that a single-core machine still overlaps work and commit.
pub const SLOTS_MIN: usize = 8;

/// Most results in one pipelined commit. More would only delay the first reply of the batch.
pub const COMMIT_BATCH_FRAMES: usize = 64;

/// Most payload bytes in one pipelined commit. It bounds how long one client keeps Redis busy
/// (about 20 ms at 1 GB/s on both sides).
pub const COMMIT_BATCH_BYTES: usize = 16 << 20;

/// Most frames of one entry, a `ProcessedFrameBatch`. One script call stores all their results, and
/// the server answers no other client meanwhile.
pub const BATCH_FRAMES_MAX: usize = 256;

/// Most times one command is redirected by nodes of a Cluster.
pub const HOPS_MAX: usize = 5;

/// Most frames in flight to be committed. One committer sends them all again after a lost
/// connection, and the script may have to look for an earlier result of each.
pub const COMMIT_WINDOW_FRAMES: usize = 1024;

/// Most outstanding requests of a reader for new entries. While a stream is idle, Redis lets them
/// wait one after the other, each for `block_time_ms`.
pub const READ_WINDOW_REQUESTS: usize = 64;

/// Most entries that a reader has requested and not received.
pub const READ_WINDOW_FRAMES: usize = 1024;

/// Most frames in a producer's hands: sent and not confirmed, or to be sent again. With a round
/// trip of 200 ms that is 1,280 frames a second.
pub const PRODUCER_FRAMES_MAX: usize = 256;

/// Most bytes of these frames: raw frames of 1920x1080 at 100 a second and 200 ms.
pub const PRODUCER_BYTES_MAX: usize = 128 << 20;

/// Longest camera or frame id, in bytes. Ids are stored per camera and per slot; real ones are far
/// shorter.
pub const ID_BYTES_MAX: usize = 256;

/// Most elements one reply array may declare if the whole reply is kept in memory.
pub const RESP_ARRAY_MAX: usize = 1 << 20;

/// Most bytes one bulk string may declare in such a reply: the default `proto-max-bulk-len` of a
/// server.
pub const RESP_BULK_BYTES_MAX: u64 = 512 << 20;

/// Most fields and values of an entry: the most arguments that Redis accepts for one command.
pub const ENTRY_ARRAY_MAX: usize = i32::MAX as usize;

/// Longest value of an entry: the highest `proto-max-bulk-len` that can be configured.
pub const ENTRY_BULK_BYTES_MAX: u64 = i64::MAX as u64;

/// Most bytes requested at a time, unless one entry alone is larger. Redis queues a whole reply
/// before it sends the first byte, and disconnects a client whose queue exceeds
/// `client-output-buffer-limit`.
pub const REPLY_BYTES_MAX: u64 = 16 << 20;

/// How long a connection to a node of a Cluster may be unused before it is closed. Longer than the
/// period of housekeeping.
pub const IDLE_CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// Most entries requested in one read; the upper limit of `batch_size` in the configuration.
pub const BATCH_SIZE_MAX: usize = 10_000;

/// How often a waiting socket checks the stop signal and its deadline.
pub const SOCKET_TICK: Duration = Duration::from_millis(50);

/// The same if the stop signal itself ends the wait: how often the thread shows that it is alive.
pub const QUIET_TICK: Duration = Duration::from_secs(1);

/// Longest wait for a full lane or an empty pool before the stop signal is checked again.
pub const LANE_TICK: Duration = Duration::from_millis(50);

/// How often a dispatcher checks whether the jobs before a suspect frame have ended. Shorter than
/// the shortest job.
pub const JOB_TICK: Duration = Duration::from_micros(200);

/// First and longest pause between attempts to reach Redis.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// See [`BACKOFF_FIRST`].
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(2);

/// Longest pause if a failover to another server is possible. Looking for the new server costs
/// little, and frames wait.
pub const BACKOFF_LONGEST_FAILOVER: Duration = Duration::from_millis(250);

/// Longest wait for replicas; longer than replication takes while it works.
pub const REPLICAS_LIMIT: Duration = Duration::from_secs(1);

/// Reply time allowed beyond `BLOCK`. A blocked read that takes longer has lost its server.
pub const BLOCK_MARGIN: Duration = Duration::from_secs(2);

/// Longest wait for a connection to be accepted. The system retries after one and after three
/// seconds. A host that has not answered by then is tried again, or another host is tried.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// How often TCP keepalive probes the other host while nothing is sent, in whole seconds as the
/// system requires.
pub const HOST_ASKED_EVERY: Duration = Duration::from_secs(2);

/// Silence after which the other host counts as gone, while nothing is in flight to it.
pub const HOST_SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// Number of unanswered probes after which the host counts as gone. The first probe follows a
/// pause, and each has its own time for an answer.
pub const HOST_ASKED_TIMES: u32 =
    (HOST_SILENCE_LIMIT.as_secs() / HOST_ASKED_EVERY.as_secs() - 1) as u32;

/// How often a dedicated thread asks the Sentinels for the primary. This is a small part of the
/// time in which they agree on another one.
pub const LOOKOUT_PERIOD: Duration = Duration::from_millis(250);

/// Shortest time between searches for stale entries of other consumers.
pub const CLAIM_PERIOD: Duration = Duration::from_secs(3);

/// Most entries left pending by a former process that an engine knows before it reads them. More
/// than an engine has in hand.
pub const LEFT_MAX: usize = 100_000;

/// Pending entries fetched in one step, own and stale ones.
pub const PENDING_PAGE: usize = 16;

const _: () = assert!(COMMIT_BATCH_FRAMES >= SLOTS_PER_WORKER, "one worker's results fit a batch");
const _: () = assert!(BACKOFF_FIRST.as_millis() < BACKOFF_LONGEST.as_millis());
const _: () = assert!(HOST_ASKED_TIMES >= 2, "one lost question is no reason to leave");
const _: () = assert!(SOCKET_TICK.as_millis() < BLOCK_MARGIN.as_millis());
