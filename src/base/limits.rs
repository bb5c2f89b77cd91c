//! Every bound that is not configurable, with its reason beside it. Sums that depend on the
//! configuration are written out in `engine`.

use std::time::Duration;

/// Frames between the reader and the dispatcher. Two per worker would do for throughput; a few
/// more keep the workers fed while the reader waits for a large body to arrive.
pub const READ_LANE_FRAMES: usize = 8;

/// Frames being worked on or waiting for their commit, per worker. One in work, one waiting, and
/// two more so that a batch can form while the committer waits for Redis.
pub const SLOTS_PER_WORKER: usize = 4;

/// Fewest slots of an engine, so that a single-core machine still overlaps work and commit.
pub const SLOTS_MIN: usize = 8;

/// Most results in one pipelined commit. More would only delay the first reply of the batch.
pub const COMMIT_BATCH_FRAMES: usize = 64;

/// Most payload bytes in one pipelined commit; bounds the time for which Redis is kept busy by
/// one client (about 20 ms at 1 GB/s on both sides).
pub const COMMIT_BATCH_BYTES: usize = 16 << 20;

/// Most frames of one entry, a `ProcessedFrameBatch`: their results are stored by one call of a script,
/// for which the server answers no one else.
pub const BATCH_FRAMES_MAX: usize = 256;

/// Most times one command is sent on by nodes of a Cluster.
pub const HOPS_MAX: usize = 5;

/// Most frames whose commit is under way at a time: what one committer sends again after a lost
/// connection, and for each of which the script may have to look for an earlier result.
pub const COMMIT_WINDOW_FRAMES: usize = 1024;

/// Most requests for new entries that a reader has under way at a time. While a stream is idle, Redis
/// lets them wait one after the other, each for `block_time_ms`.
pub const READ_WINDOW_REQUESTS: usize = 64;

/// Most entries that a reader has asked for at a time and not received.
pub const READ_WINDOW_FRAMES: usize = 1024;

/// Most frames that a producer has in hand: sent and not confirmed, or to be sent again. At 200 ms
/// that is 1,280 frames a second.
pub const PRODUCER_FRAMES_MAX: usize = 256;

/// Most bytes of them: raw frames of 1920x1080 at 100 a second and 200 ms.
pub const PRODUCER_BYTES_MAX: usize = 128 << 20;

/// Longest camera or frame id, in bytes. Ids are kept per camera and per slot; real ones are far
/// shorter.
pub const ID_BYTES_MAX: usize = 256;

/// Most elements one reply array may declare where the whole reply is kept in memory.
pub const RESP_ARRAY_MAX: usize = 1 << 20;

/// Most bytes one bulk string may declare there: `proto-max-bulk-len` of a server as it comes.
pub const RESP_BULK_BYTES_MAX: u64 = 512 << 20;

/// Most fields and values of an entry: what Redis takes as the number of arguments of one command.
pub const ENTRY_ARRAY_MAX: usize = i32::MAX as usize;

/// Longest value of an entry: the highest `proto-max-bulk-len` that a server can be given.
pub const ENTRY_BULK_BYTES_MAX: u64 = i64::MAX as u64;

/// Most bytes asked for at a time, unless one entry alone is larger. Redis queues a whole reply
/// before it sends the first byte, and cuts off a client whose queue exceeds
/// `client-output-buffer-limit`.
pub const REPLY_BYTES_MAX: u64 = 16 << 20;

/// How long a connection to a node of a Cluster may be unused before it is closed. Longer than the
/// pauses between the rounds of housekeeping.
pub const IDLE_CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// Most entries asked for in one read; the configuration's upper limit for `batch_size`.
pub const BATCH_SIZE_MAX: usize = 10_000;

/// How often a waiting socket looks at the stop signal and its deadline.
pub const SOCKET_TICK: Duration = Duration::from_millis(50);

/// The same where the stop signal ends the wait by itself: how often the thread shows that it lives.
pub const QUIET_TICK: Duration = Duration::from_secs(1);

/// How long a full lane or empty pool is waited for before the stop signal is looked at again.
pub const LANE_TICK: Duration = Duration::from_millis(50);

/// How often a dispatcher looks whether the jobs before a suspect frame have ended: less than the
/// shortest job takes.
pub const JOB_TICK: Duration = Duration::from_micros(200);

/// First and longest pause between attempts to reach Redis.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// See [`BACKOFF_FIRST`].
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(2);

/// The longest pause where another server takes over from one that is gone: looking for it costs
/// little, and frames wait.
pub const BACKOFF_LONGEST_FAILOVER: Duration = Duration::from_millis(250);

/// How long replicas are waited for; longer than replication takes while it works at all.
pub const REPLICAS_LIMIT: Duration = Duration::from_secs(1);

/// Reply time allowed beyond `BLOCK`: a blocked read that is later than this has lost its server.
pub const BLOCK_MARGIN: Duration = Duration::from_secs(2);

/// Longest wait for a connection to be accepted. The system asks again after one and after three
/// seconds; a host that has not answered then is tried anew, or another one in its place.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// How often the host at the other end is asked whether it is there while nothing is sent; whole
/// seconds, for the system counts no others.
pub const HOST_ASKED_EVERY: Duration = Duration::from_secs(2);

/// Silence after which the host at the other end counts as gone, while nothing is on its way there.
pub const HOST_SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// How often the host is asked in vain before it is given up: the first question follows a pause,
/// and each has its time for an answer.
pub const HOST_ASKED_TIMES: u32 =
    (HOST_SILENCE_LIMIT.as_secs() / HOST_ASKED_EVERY.as_secs() - 1) as u32;

/// How often Sentinels are asked where the primary is, by a thread that does nothing else: a small
/// part of the time that they themselves take to agree on another one.
pub const LOOKOUT_PERIOD: Duration = Duration::from_millis(250);

/// How often stale entries of other consumers are looked for, at most.
pub const CLAIM_PERIOD: Duration = Duration::from_secs(3);

/// Entries that a former process left pending, of which an engine knows before it reads them. More
/// than an engine has in hand.
pub const LEFT_MAX: usize = 100_000;

/// Pending entries looked at in one step, own ones and stale ones.
pub const PENDING_PAGE: usize = 16;

const _: () = assert!(COMMIT_BATCH_FRAMES >= SLOTS_PER_WORKER, "one worker's results fit a batch");
const _: () = assert!(BACKOFF_FIRST.as_millis() < BACKOFF_LONGEST.as_millis());
const _: () = assert!(HOST_ASKED_TIMES >= 2, "one lost question is no reason to leave");
const _: () = assert!(SOCKET_TICK.as_millis() < BLOCK_MARGIN.as_millis());
