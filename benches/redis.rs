//! Reading from and committing to a real redis-server, compared with the `redis` crate in the same
//! run.
//!
//! Wall time includes the server, which does the same work for both sides; a client can only save
//! its own CPU time. So after criterion's figures, both sides run alternately, and a table shows
//! the CPU time of the client thread and the ratio of the two. The table also shows the lower limit
//! of reading: `read` of the same bytes into one buffer, without looking at them.
//!
//! Goal: reading a raw frame of 1920x1080 takes at most a quarter of the CPU time of the typed
//! reply of `redis`.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use std::cell::RefCell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use framepress::internals::base::Stop;
use framepress::internals::frame::{EntryId, Journal, Labels, Pool, Stored};
use framepress::internals::metrics::{Metrics, Outcome};
use framepress::internals::redis::{
    Action, CommitAnswer, CommitPlan, Delivered, Delivery, Embedded, Feed, Retention, Sinks,
    SourceOptions, StreamSource, Streams, Task, Topology,
};
use redis::streams::StreamReadReply;
use redis::{Value, cmd};
use rustix::time::{ClockId, clock_gettime};

/// The program's own allocator, for both sides. It favours the `redis` crate. The allocator of the
/// C library returns large blocks to the kernel each time; with it, that side costs several times
/// as much from 1 MB on. Our side allocates nothing and costs the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name and payload of a frame: small and large JPEG, raw 640x480, raw 1920x1080.
const SIZES: [(&str, usize); 4] =
    [("20 kB", 20_000), ("100 kB", 100_000), ("1 MB", 921_600), ("6 MB", 1920 * 1080 * 3)];

/// Bytes read or written per measured step; at least one entry.
const STEP_BYTES: usize = 8 << 20;
/// Maximum entries per step; the default batch size.
const STEP_ENTRIES: usize = 20;
const ROUNDS: usize = 15;
const GROUP: &str = "group";

/// CPU time and wall time of an action of this thread.
#[derive(Clone, Copy, Default)]
struct Cost {
    cpu: Duration,
    wall: Duration,
}

fn measured(work: impl FnOnce()) -> Cost {
    let (wall, cpu) = (Instant::now(), thread_cpu());
    work();
    Cost { cpu: thread_cpu() - cpu, wall: wall.elapsed() }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// The server, and one connection of the `redis` crate to it.
struct Bench {
    theirs: RefCell<redis::Connection>,
    stop: Stop,
    metrics: Arc<Metrics>,
    pool: Pool,
    // Declared last: the connections are dropped first.
    server: Embedded,
}

impl Bench {
    fn start() -> Bench {
        let stop = Stop::default();
        let server = Embedded::start(&stop).unwrap();
        let client = redis::Client::open(format!("redis+unix://{}", server.address())).unwrap();
        Bench {
            theirs: RefCell::new(client.get_connection().unwrap()),
            stop,
            metrics: Metrics::new(),
            pool: Pool::new(256 << 20),
            server,
        }
    }

    fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        command.query(&mut self.theirs.borrow_mut()).unwrap()
    }

    /// Fills stream `in` with `count` frames and creates its group.
    fn fill(&self, count: usize, bytes: usize) {
        self.run::<Value>(&["FLUSHALL"]);
        self.run::<Value>(&["XGROUP", "CREATE", "in", GROUP, "0", "MKSTREAM"]);
        let address = self.server.address();
        let mut feed =
            Feed::open(address, "feed", Duration::from_secs(30), &self.metrics, &self.stop)
                .unwrap();
        let payload = vec![7; bytes];
        let side: [(&str, &[u8]); 3] =
            [("frame_id", b"frame-000001"), ("camera_id", b"camera-1"), ("timestamp", b"1.5")];
        for _ in 0..count {
            feed.add("in", &payload, &side, 0).unwrap();
        }
    }

    /// Makes the group deliver everything again.
    fn rewind(&self) {
        self.run::<Value>(&["XGROUP", "SETID", "in", GROUP, "0"]);
    }

    fn source(&self) -> StreamSource {
        let options = Arc::new(SourceOptions {
            stream: "in".into(),
            shard: 0,
            reader: 0,
            group: GROUP.into(),
            consumer: "ours".into(),
            block: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            payload_bytes_max: 64 << 20,
            // The other side of the comparison does not hash.
            locate_picture: |_, _| None,
        });
        let journal = Journal::new(1, Arc::clone(&self.metrics));
        let recorder = self.metrics.recorder();
        let address = self.server.address();
        StreamSource::open(
            address,
            &options,
            &journal,
            &self.pool,
            &self.metrics,
            &recorder,
            &self.stop,
        )
        .unwrap()
    }

    fn sinks(&self, delivery: Delivery) -> Sinks {
        let plan = Arc::new(CommitPlan {
            streams: vec![Streams::new("in", "out")],
            group: GROUP.into(),
            output_length_max: 8,
            output_full_at: 0,
            dead_letter_length_max: 8,
            delivery,
            retention: Retention::Keep,
            wait_replicas: 0,
        });
        let (topology, wait) = (Topology::from(self.server.address()), Duration::from_secs(30));
        Sinks::new(&topology, &plan, "sink".into(), wait, &self.metrics, &self.stop)
    }

    /// Creates `count` pending entries with minimal bodies.
    fn pending(&self, count: usize) -> Vec<EntryId> {
        let mut add = redis::pipe();
        for _ in 0..count {
            add.cmd("XADD").arg("in").arg("MAXLEN").arg("~").arg(1000).arg("*").arg("data").arg(1);
        }
        let ids: Vec<String> = add.query(&mut self.theirs.borrow_mut()).unwrap();
        let count = count.to_string();
        self.run::<Value>(&[
            "XREADGROUP",
            "GROUP",
            GROUP,
            "ours",
            "COUNT",
            &count,
            "STREAMS",
            "in",
            ">",
        ]);
        ids.iter().map(|id| EntryId::parse(id.as_bytes()).unwrap()).collect()
    }
}

fn entries_of(bytes: usize) -> usize {
    (STEP_BYTES / bytes).clamp(1, STEP_ENTRIES)
}

/// One step of reading: all entries of the stream through [`StreamSource`].
fn read_ours(bench: &Bench, source: &mut StreamSource, count: usize) -> Cost {
    bench.rewind();
    measured(|| {
        source.request(count).unwrap();
        let delivered = source.receive(&mut |frame| {
            black_box(frame.body.fields().and_then(|entry| entry.data()).unwrap());
            frame.receipt.close(Outcome::Out);
            Ok(())
        });
        assert!(
            matches!(delivered.unwrap(), Delivered::Entries(batch) if batch.taken == count as u64)
        );
    })
}

/// The same through the `redis` crate, into its own type.
fn read_theirs(bench: &Bench, count: usize) -> Cost {
    bench.rewind();
    let mut connection = bench.theirs.borrow_mut();
    measured(|| {
        let reply: StreamReadReply = cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg("theirs")
            .arg("COUNT")
            .arg(count)
            .arg("BLOCK")
            .arg(1000)
            .arg("STREAMS")
            .arg("in")
            .arg(">")
            .query(&mut *connection)
            .unwrap();
        assert_eq!(reply.keys[0].ids.len(), count);
        for entry in &reply.keys[0].ids {
            let Some(Value::BulkString(data)) = entry.map.get("data") else { panic!("no data") };
            black_box(data);
        }
    })
}

/// Reads the same bytes without looking at them.
struct Floor {
    socket: UnixStream,
    buffer: Vec<u8>,
    request: String,
    reply_bytes: usize,
}

impl Floor {
    fn new(bench: &Bench, count: usize) -> Floor {
        let mut floor = Floor {
            socket: UnixStream::connect(bench.server.address().to_string()).unwrap(),
            buffer: vec![0; 8 << 20],
            request: format!("XREADGROUP GROUP {GROUP} floor COUNT {count} STREAMS in >\r\n"),
            reply_bytes: 0,
        };
        // The length of a reply: all bytes until no more arrive.
        floor.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        bench.rewind();
        floor.socket.write_all(floor.request.as_bytes()).unwrap();
        while let Ok(read) = floor.socket.read(&mut floor.buffer) {
            floor.reply_bytes += read;
        }
        floor
    }

    fn read(&mut self, bench: &Bench) -> Cost {
        bench.rewind();
        measured(|| {
            self.socket.write_all(self.request.as_bytes()).unwrap();
            let mut left = self.reply_bytes;
            while left > 0 {
                left -= self.socket.read(&mut self.buffer).unwrap();
            }
            black_box(&self.buffer);
        })
    }
}

/// One step of committing: a batch of as many results as fit into a step.
fn commit_ours(bench: &Bench, sinks: &mut Sinks, payload: &[u8]) -> Cost {
    let ids = bench.pending(entries_of(payload.len()));
    let results: Vec<Stored> = ids
        .iter()
        .map(|id| {
            let room = Labels::room("frame-000001", "camera-1", "");
            let lease = bench.pool.lease_now(room);
            let labels = Labels::write(lease, "frame-000001", "camera-1", 1.5, *id, "");
            let mut lease = bench.pool.lease_now(payload.len());
            lease.copy_from_slice(payload);
            Stored { payload: lease, labels }
        })
        .collect();
    let mut answers = Vec::with_capacity(ids.len());
    let cost = measured(|| {
        let tasks: Vec<Task<'_>> = ids
            .iter()
            .zip(&results)
            .map(|(&id, stored)| Task {
                shard: 0,
                id,
                after: None,
                identity: "",
                tenure: None,
                earlier: None,
                action: Action::Store { results: std::slice::from_ref(stored) },
            })
            .collect();
        sinks.commit(&tasks, &mut answers).unwrap();
    });
    assert!(answers.iter().all(|answer| matches!(answer, CommitAnswer::Done { .. })));
    cost
}

/// The same through the `redis` crate: MULTI, XADD and XACK for each result, EXEC, in one pipeline.
fn commit_theirs(bench: &Bench, payload: &[u8]) -> Cost {
    let ids: Vec<String> =
        bench.pending(entries_of(payload.len())).iter().map(EntryId::to_string).collect();
    let mut connection = bench.theirs.borrow_mut();
    measured(|| {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for id in &ids {
            pipe.cmd("XADD").arg("out").arg("MAXLEN").arg("~").arg(8).arg("*");
            pipe.arg("data").arg(payload).arg("frame_id").arg("frame-000001");
            pipe.arg("camera_id").arg("camera-1").arg("timestamp").arg("1.5");
            pipe.arg("source_id").arg(id);
            pipe.cmd("XACK").arg("in").arg(GROUP).arg(id);
        }
        let answers: Vec<Value> = pipe.query(&mut *connection).unwrap();
        assert_eq!(answers.len(), 2 * ids.len());
    })
}

fn reading(c: &mut Criterion, bench: &Bench) {
    for (name, bytes) in SIZES {
        let count = entries_of(bytes);
        bench.fill(count, bytes);
        let mut source = bench.source();
        let mut group = c.benchmark_group(format!("read/{name}"));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function("source", |b| {
            b.iter_custom(|times| {
                (0..times).map(|_| read_ours(bench, &mut source, count).wall).sum()
            });
        });
        group.bench_function("redis crate", |b| {
            b.iter_custom(|times| (0..times).map(|_| read_theirs(bench, count).wall).sum());
        });
        group.finish();
    }
}

fn committing(c: &mut Criterion, bench: &Bench) {
    for (name, bytes) in SIZES {
        bench.fill(0, bytes);
        let payload = vec![7; bytes];
        let mut group = c.benchmark_group(format!("commit/{name}"));
        group.throughput(Throughput::Elements(entries_of(bytes) as u64));
        for (what, delivery) in [
            ("ours, fenced script", Delivery::ExactlyOnce),
            ("ours, script without fence", Delivery::AtLeastOnce),
        ] {
            let mut sinks = bench.sinks(delivery);
            group.bench_function(what, |b| {
                b.iter_custom(|times| {
                    (0..times).map(|_| commit_ours(bench, &mut sinks, &payload).wall).sum()
                });
            });
        }
        group.bench_function("redis crate, MULTI", |b| {
            b.iter_custom(|times| (0..times).map(|_| commit_theirs(bench, &payload).wall).sum());
        });
        group.finish();
    }
}

/// Runs the sides alternately, so that a slow moment of the machine affects all of them. Prints
/// medians per frame.
fn alternately(
    what: &str,
    frames: usize,
    mut ours: impl FnMut() -> Cost,
    mut theirs: impl FnMut() -> Cost,
    mut floor: Option<&mut dyn FnMut() -> Cost>,
) {
    let micros = |cost: Cost| cost.cpu.as_secs_f64() * 1e6 / frames as f64;
    let mut round = || {
        let floor = floor.as_mut().map(|floor| micros(floor()));
        [micros(ours()), micros(theirs()), floor.unwrap_or(f64::NAN)]
    };
    round(); // warm-up
    let rounds: Vec<[f64; 3]> = (0..ROUNDS).map(|_| round()).collect();
    let spread = |of: fn(&[f64; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        (values[0], values[values.len() / 2], values[values.len() - 1])
    };
    let (_, ours, _) = spread(|round| round[0]);
    let (_, theirs, _) = spread(|round| round[1]);
    let (least, middle, most) = spread(|round| round[0] / round[1]);
    print!("| {what} | {ours:.0} | {theirs:.0} | {middle:.3} | {least:.3} - {most:.3} |");
    if floor.is_some() {
        let (_, floor, _) = spread(|round| round[2]);
        let (_, above, _) = spread(|round| round[0] / round[2]);
        println!(" {floor:.0} | {above:.2} |");
    } else {
        println!(" | |");
    }
}

fn table(bench: &Bench) {
    println!("\nClient CPU per frame, {ROUNDS} rounds, alternately, medians\n");
    println!("| what | ours, us | redis crate, us | ratio | range | floor, us | ours / floor |");
    println!("| --- | ---: | ---: | ---: | --- | ---: | ---: |");
    for (name, bytes) in SIZES {
        let count = entries_of(bytes);
        bench.fill(count, bytes);
        let mut source = bench.source();
        let ours = || read_ours(bench, &mut source, count);
        let mut floor = Floor::new(bench, count);
        let theirs = || read_theirs(bench, count);
        alternately(&format!("read {name}"), count, ours, theirs, Some(&mut || floor.read(bench)));
    }
    for (name, bytes) in SIZES {
        bench.fill(0, bytes);
        let payload = vec![7; bytes];
        let count = entries_of(bytes);
        for (what, delivery) in [
            ("fenced script", Delivery::ExactlyOnce),
            ("script without fence", Delivery::AtLeastOnce),
        ] {
            let mut sinks = bench.sinks(delivery);
            let ours = || commit_ours(bench, &mut sinks, &payload);
            let theirs = || commit_theirs(bench, &payload);
            alternately(&format!("commit {name}, {what}"), count, ours, theirs, None);
        }
    }
    println!("\nGoal: read 6 MB (a raw frame of 1920x1080) at most 0.25.");
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let bench = Bench::start();
    reading(&mut criterion, &bench);
    committing(&mut criterion, &bench);
    criterion.final_summary();
    // `cargo test --benches` only checks that everything runs.
    if !std::env::args().any(|arg| arg == "--test") {
        table(&bench);
    }
}
