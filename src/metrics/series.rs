//! The time series for a monitoring system, each with its name, kind and meaning.
//!
//! Base units: seconds, bytes, ratios from 0 to 1. Counters end in `_total`. Labels have few
//! values, all known in advance except `camera`, which is capped.

/// The kind of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesKind {
    /// Only grows while the process lives.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations by upper bound, cumulative.
    Histogram,
}

macro_rules! series {
    ($($variant:ident = $kind:ident $name:literal $help:literal),+ $(,)?) => {
        /// A family of time series.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Series { $(#[doc = $help] $variant),+ }

        impl Series {
            /// Every series, in display order.
            pub const ALL: [Series; [$($name),+].len()] = [$(Series::$variant),+];

            /// The full name.
            pub const fn name(self) -> &'static str {
                match self { $(Series::$variant => concat!("framepress_", $name)),+ }
            }

            /// Its meaning, in one sentence.
            pub const fn help(self) -> &'static str {
                match self { $(Series::$variant => $help),+ }
            }

            /// Its kind.
            pub const fn kind(self) -> SeriesKind {
                match self { $(Series::$variant => SeriesKind::$kind),+ }
            }
        }
    };
}

series! {
    BuildInfo = Gauge "build_info" "Always 1; the labels say what is running.",
    StartTime = Gauge "start_time_seconds" "When counting began, in seconds since the Unix epoch.",
    Ready = Gauge "ready" "1 when every part is connected and works, as /readyz says; else 0.",
    Silence = Gauge "silence_seconds" "Time since the last activity of any part of the engine.",

    FramesRead = Counter "frames_read_total" "Entries taken from the input streams.",
    Frames = Counter "frames_total" "Frames that have ended, by outcome.",
    Results = Counter "results_total" "Results stored: one per entry, or for a batch one per frame.",
    FramesInFlight = Gauge "frames_in_flight" "Frames in work in this process now.",
    FramesUnaccounted = Gauge "frames_unaccounted" "Frames read that are neither in flight nor ended; anything but 0 is a fault of the engine.",
    DeadLetters = Counter "dead_letters_total" "Frames refused, by reason.",
    Shed = Counter "shed_total" "Frames shed because of their age, by the stage that shed them.",
    Errors = Counter "errors_total" "Errors in any thread, including those that were solved by a retry.",

    InputBytes = Counter "input_bytes_total" "Payload bytes read from the input streams.",
    OutputBytes = Counter "output_bytes_total" "Payload bytes written to the output streams.",
    ImageBytes = Counter "image_bytes_total" "Bytes of the encoded pictures of frames.",
    RawPixelBytes = Counter "raw_pixel_bytes_total" "Bytes of the pixels of the encoded pictures, uncompressed.",
    JsonBase64Bytes = Counter "json_base64_bytes_total" "Bytes that the frames would take as JSON with base64 of their pixels.",
    CompressionRatio = Gauge "compression_ratio" "Encoded picture bytes divided by raw pixel bytes, since the start.",
    PassedThrough = Counter "passed_through_total" "Pictures that were small enough to be stored unchanged.",
    DamagedAccepted = Counter "damaged_accepted_total" "Damaged pictures that were processed nevertheless (limits.damaged_images: accept).",
    TimesNotUnderstood = Counter "times_not_understood_total" "Capture times that were neither a number nor ISO 8601; the engine uses the time of the entry instead.",
    RingFrames = Counter "ring_frames_total" "Frames whose pixels were read from a frame ring.",
    RingBytes = Counter "ring_bytes_total" "Bytes of the pixels read from frame rings.",

    EndToEnd = Histogram "end_to_end_seconds" "Time from adding an entry to storing its result, by the clock of Redis.",
    Processing = Histogram "processing_seconds" "Time from reading a frame until its result is ready.",
    StageSeconds = Histogram "stage_seconds" "Time of a frame in each stage.",
    Serialization = Histogram "serialization_seconds" "Time to write the protobuf message of a result.",

    LaneFrames = Gauge "lane_frames" "Frames waiting in a lane between two stages.",
    LaneCapacity = Gauge "lane_capacity_frames" "Capacity of a lane between two stages, in frames.",
    Blocked = Counter "blocked_seconds_total" "Time for which a thread waited for room: in the lane to the dispatcher, for a slot, for a buffer.",
    PoolBytes = Gauge "pool_bytes" "Bytes of buffers, leased and idle.",
    PoolLimit = Gauge "pool_limit_bytes" "Maximum bytes of leased buffers.",

    QueueEntries = Gauge "queue_entries" "Entries in the streams.",
    QueueLimit = Gauge "queue_limit_entries" "Most entries of the streams, of all shards together; 0 for no limit.",
    OutputBlocks = Gauge "output_blocks" "1 if a full output stream stops the engine; 0 if the oldest results are removed.",
    QueueBytes = Gauge "queue_bytes" "Memory of the streams, by the estimate of Redis.",
    Lag = Gauge "lag_entries" "Entries not delivered to the group yet; absent while Redis does not know the number.",
    Pending = Gauge "pending_entries" "Entries delivered to the group and not acknowledged.",
    OldestPending = Gauge "oldest_pending_seconds" "Time since the oldest unacknowledged entry was added; 0 if there is none.",
    Consumers = Gauge "consumers" "Consumers in the group.",

    Connections = Gauge "connections" "Connections to Redis.",
    RoundTrip = Histogram "redis_round_trip_seconds" "Round trip of a request to Redis, measured once a second at the server of each shard.",
    Window = Gauge "window" "In transit to Redis and back: requests for new entries, or frames whose commit is not answered.",
    WindowLimit = Gauge "window_limit" "Maximum requests or frames in transit; the engine adapts it to the rate and the round trip.",
    ConnectionLimit = Gauge "connection_limit" "Most connections to Redis, as configured.",
    ShardsHeld = Gauge "shards_held" "Shards whose lease this engine holds.",
    ShardsFree = Gauge "shards_without_holder" "Shards whose lease no engine holds, as this engine sees it; 0 where streams are shared.",
    LeaseChanges = Counter "lease_changes_total" "Leases of shards taken, renewed, given back and lost.",
    Takeover = Histogram "takeover_seconds" "Time from the end of the previous holder's lease of a shard to the first result of this engine.",
    Reconnects = Counter "reconnects_total" "Connections to Redis made again after a loss.",
    Claimed = Counter "claimed_total" "Stale entries taken over from other consumers.",
    Renewed = Counter "renewed_total" "Entries in work whose idle time was reset.",
    Recovered = Counter "recovered_total" "Entries read again from the engine's own pending list.",
    GroupsRecreated = Counter "groups_recreated_total" "Times the consumer group had to be created again.",
    IdsAheadOfClock = Counter "ids_ahead_of_clock_total" "Entries whose id is ahead of the server's clock, so that their age is unknown.",
    DeletesRefused = Counter "deletes_refused_total" "Acknowledged input entries that the server refused to delete.",
    ScriptFences = Counter "script_fences_total" "Commits whose entry had already ended: by an earlier attempt of this engine, or by another engine.",
    CommitBatches = Counter "commit_batches_total" "Pipelined commits sent.",
    BackPressure = Counter "back_pressure_waits_total" "Pauses because Redis was out of memory or the output stream full.",
    RedisMemory = Gauge "redis_memory_bytes" "Memory that Redis uses.",
    RedisMemoryLimit = Gauge "redis_memory_limit_bytes" "Redis' maxmemory; 0 for no limit.",

    Cameras = Gauge "cameras" "Cameras whose state the engine keeps.",
    WebpMethod = Gauge "webp_method" "Effort of the last WebP picture, 0 to 6; 0 if there was none.",
    PngLevel = Gauge "png_level" "Effort of the last PNG picture: 0 fast, 1 balanced, 2 high; 0 if there was none.",
    HuffmanTablesLearnt = Counter "huffman_tables_learnt_total" "Times that the engine learnt the Huffman tables of a camera.",
    CamerasEvicted = Counter "cameras_evicted_total" "Camera states dropped to make room for others.",
    CameraFrames = Counter "camera_frames_total" "Frames by camera and outcome, of the first 50 cameras.",
    OtherCameraFrames = Counter "other_camera_frames_total" "Frames by outcome of all cameras that have no series of their own.",
    CameraLastFrame = Gauge "camera_last_frame_timestamp_seconds" "When the last result of a camera was ready, in seconds since the Unix epoch.",
    CameraQuality = Gauge "camera_quality_ratio" "Quality score of a camera's last frame.",
    CameraDensity = Gauge "camera_vehicle_density_ratio" "Vehicle density of a camera's last frame.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for series in Series::ALL {
            let name = series.name();
            assert_eq!(name.ends_with("_total"), series.kind() == SeriesKind::Counter, "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_64".contains(&byte)));
            let others = Series::ALL.iter().filter(|other| other.name() == name);
            assert_eq!(others.count(), 1, "{name} is taken twice");
        }
    }
}
