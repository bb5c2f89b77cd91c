//! Counters, gauges and timers, each with its stable name.

use crate::base::Stage;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// A number that only grows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[doc = $doc])+ $variant),+ }

        impl Counter {
            /// Every counter, in the order of declaration.
            pub const ALL: [Counter; [$($name),+].len()] = [$(Counter::$variant),+];

            /// The stable name, in snake case, without prefix or suffix.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name),+ }
            }
        }
    };
}

counters! {
    /// Payload bytes read from the input stream.
    BytesIn = "bytes_in",
    /// Results stored: one for each frame of a batch, and one for any other entry.
    Results = "results",
    /// Payload bytes written to the output stream.
    BytesOut = "bytes_out",
    /// Bytes of all coded pictures written.
    ImageBytesOut = "image_bytes_out",
    /// Bytes the pixels of those pictures take uncompressed.
    RawPixelBytes = "raw_pixel_bytes",
    /// Bytes of the frames read as JSON with base64 of raw pixels.
    JsonBase64Bytes = "json_base64_bytes",
    /// Connections to Redis made again after a loss.
    Reconnects = "reconnects",
    /// The number of open connections to Redis is this minus `ConnectionsClosed`.
    ConnectionsOpened = "connections_opened",
    /// See `ConnectionsOpened`.
    ConnectionsClosed = "connections_closed",
    /// Errors in any thread, including those that were overcome.
    Errors = "errors",
    /// Commits done by an earlier attempt whose answer was lost with its connection.
    CommitRepeatsFenced = "commit_repeats_fenced",
    /// Stale entries taken over from other consumers.
    Claimed = "claimed",
    /// Entries in flight whose idle time was reset.
    Renewed = "renewed",
    /// Entries read again from the consumer's own pending list.
    Recovered = "recovered",
    /// Times the consumer group had to be created again.
    GroupRecreated = "group_recreated",
    /// Leases of streams taken.
    LeasesTaken = "leases_taken",
    /// Leases renewed.
    LeasesRenewed = "leases_renewed",
    /// Leases given back after everything in hand had been committed.
    LeasesGivenBack = "leases_given_back",
    /// Leases that ended otherwise.
    LeasesLost = "leases_lost",
    /// Frames shed when they were read.
    ShedAtRead = "shed_at_read",
    /// Frames shed just before encoding.
    ShedAtEncode = "shed_at_encode",
    /// Entries whose id is ahead of the server's clock, so that their age is unknown.
    IdsAheadOfClock = "ids_ahead_of_clock",
    /// Acknowledged input entries that the server refused to delete.
    DeletesRefused = "deletes_refused",
    /// Pauses because Redis was out of memory.
    OutOfMemoryWaits = "out_of_memory_waits",
    /// Pauses because the output stream was full.
    OutputFullWaits = "output_full_waits",
    /// Batches confirmed in time by fewer replicas than requested.
    ReplicaAcksMissing = "replica_acks_missing",
    /// Pictures passed through without being coded again.
    PassedThrough = "passed_through",
    /// Damaged pictures for which a result was stored.
    DamagedAccepted = "damaged_accepted",
    /// Capture times that could not be parsed; the time of the entry replaces them.
    TimesNotUnderstood = "times_not_understood",
    /// Frames whose pixels were copied from a frame ring.
    RingFrames = "ring_frames",
    /// Bytes of those pixels.
    RingBytes = "ring_bytes",
    /// Times that the Huffman tables of a camera were learnt.
    HuffmanTablesLearnt = "huffman_tables_learnt",
    /// Camera states dropped to make room for others.
    CamerasEvicted = "cameras_evicted",
    /// Pipelined commits sent.
    CommitBatches = "commit_batches",
    /// Microseconds for which readers waited because the lane to the dispatcher was full.
    ReadLaneBlockedMicros = "read_lane_blocked_micros",
    /// Microseconds for which the dispatcher waited because every slot was in use.
    SlotsBlockedMicros = "slots_blocked_micros",
}

/// A number that rises and falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Frames between the readers and the dispatcher.
    ReadLane,
    /// Frames between the workers and the committers, over all their lanes.
    CommitLanes,
    /// The method of the last WebP picture.
    WebpMethod,
    /// The level of the last PNG picture: 0 fast, 1 balanced, 2 high.
    PngLevel,
}

impl Gauge {
    /// Number of gauges.
    pub const COUNT: usize = 4;
}

/// A duration that is recorded per frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// One stage of the frame.
    Stage(Stage),
    /// From reading until the result is ready.
    Processing,
    /// Building the protobuf message.
    Serialization,
    /// From the producer adding the entry to its result being stored, by Redis' clock.
    EndToEnd,
    /// A request to Redis that is answered at once, and its answer.
    RoundTrip,
    /// From the end of another engine's lease to the first result of this one.
    Takeover,
}

impl Timer {
    /// Number of timers.
    pub const COUNT: usize = Stage::ALL.len() + 5;

    /// Position in an array of all timers.
    pub const fn index(self) -> usize {
        match self {
            Timer::Stage(stage) => stage as usize,
            Timer::Processing => Stage::ALL.len(),
            Timer::Serialization => Stage::ALL.len() + 1,
            Timer::EndToEnd => Stage::ALL.len() + 2,
            Timer::RoundTrip => Stage::ALL.len() + 3,
            Timer::Takeover => Stage::ALL.len() + 4,
        }
    }
}
