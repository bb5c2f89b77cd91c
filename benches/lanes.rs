//! Handing frames from thread to thread: the lane, the buffer pool, the slots, and rayon's injector
//! compared with a plain bounded channel with worker threads.
//!
//! Hand-offs also cost CPU time in the kernel for sleeping and waking. So after criterion's
//! figures, both kinds of workers run the same jobs alternately. A table shows per job the CPU time
//! of the whole process, the context switches, and the time from handing a job to sleeping workers
//! until it begins, which the first frame after a pause waits for.
//!
//! Goal: rayon takes at most 1.05 times the CPU time per job of the plain channel, for jobs as long
//! as encoding a frame of 640x480.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use std::hint::black_box;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use crossbeam_channel::{Receiver, Sender, bounded};
use framepress::internals::base::{Stop, limits};
use framepress::internals::frame::{self, Pool, Slots};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A raw frame of 640x480.
const FRAME_BYTES: usize = 640 * 480 * 3;
/// Duration of a job in microseconds: nothing, a small JPEG passed through, encoding 640x480.
const JOBS_US: [u64; 3] = [0, 50, 600];
const ROUNDS: usize = 9;
const JOBS_PER_ROUND: usize = 400;
const WAKES: usize = 50;

/// A pool of workers. Both kinds hold at most as many jobs as there are slots.
trait Workers {
    fn hand(&self, job: Job);
}

struct Job {
    work: Duration,
    handed: Instant,
    /// Receives the delay until the job began; sending it also frees the job's slot.
    done: Sender<Duration>,
}

impl Job {
    /// Uses as much CPU time as encoding a frame.
    fn run(self) {
        let began = Instant::now();
        while began.elapsed() < self.work {
            std::hint::spin_loop();
        }
        self.done.send(began - self.handed).unwrap();
    }
}

struct Rayon(Arc<ThreadPool>);

impl Workers for Rayon {
    fn hand(&self, job: Job) {
        self.0.spawn(move || job.run());
    }
}

struct Channel {
    lane: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Channel {
    fn new(threads: usize, slots: usize) -> Channel {
        let (lane, jobs): (_, Receiver<Job>) = bounded(slots);
        let threads = (0..threads)
            .map(|_| {
                let jobs = jobs.clone();
                std::thread::spawn(move || jobs.iter().for_each(Job::run))
            })
            .collect();
        Channel { lane: Some(lane), threads }
    }
}

impl Workers for Channel {
    fn hand(&self, job: Job) {
        self.lane.as_ref().unwrap().send(job).unwrap();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        drop(self.lane.take());
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Hands `count` jobs over, one every `pause`, with at most `slots` at a time, and waits for all.
fn run_jobs(workers: &dyn Workers, count: usize, slots: usize, work: Duration, pause: Duration) {
    let (done, ended) = bounded(slots);
    let mut in_work = 0;
    let began = Instant::now();
    for number in 0..count {
        std::thread::sleep((pause * number as u32).saturating_sub(began.elapsed()));
        if in_work == slots {
            ended.recv().unwrap();
            in_work -= 1;
        }
        workers.hand(Job { work, handed: Instant::now(), done: done.clone() });
        in_work += 1;
    }
    for _ in 0..in_work {
        ended.recv().unwrap();
    }
}

/// CPU time in microseconds, and context switches.
type Spent = (f64, f64);

/// The CPU time and context switches of this process so far.
fn spent() -> Spent {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let mut switches = 0.0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        let counts = counts.filter_map(|line| line.rsplit('\t').next()?.parse::<f64>().ok());
        switches += counts.sum::<f64>();
    }
    (time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3, switches)
}

fn per_job(workers: &dyn Workers, slots: usize, work: Duration, pause: Duration) -> Spent {
    let before = spent();
    run_jobs(workers, JOBS_PER_ROUND, slots, work, pause);
    let after = spent();
    let jobs = JOBS_PER_ROUND as f64;
    ((after.0 - before.0) / jobs, (after.1 - before.1) / jobs)
}

/// Microseconds until a job begins if all workers were asleep.
fn wake_us(workers: &dyn Workers) -> f64 {
    let (done, ended) = bounded(1);
    let waits = (0..WAKES).map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        workers.hand(Job { work: Duration::ZERO, handed: Instant::now(), done: done.clone() });
        ended.recv().unwrap().as_secs_f64() * 1e6
    });
    median(waits.collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table(rayon: &Rayon, channel: &Channel, threads: usize, slots: usize) {
    println!(
        "\n{threads} workers, {slots} slots, {ROUNDS} rounds of {JOBS_PER_ROUND} jobs, alternately, medians\n"
    );
    println!(
        "| job | rayon, us CPU | channel, us CPU | ratio | range | switches: rayon, channel |"
    );
    println!("| --- | ---: | ---: | ---: | --- | --- |");
    // At full load, and at half of the workers' capacity, where they sleep between jobs.
    let loads = JOBS_US.map(|micros| (micros, Duration::ZERO)).into_iter().chain(
        JOBS_US[1..]
            .iter()
            .map(|&micros| (micros, Duration::from_micros(micros) * 2 / threads as u32)),
    );
    for (micros, pause) in loads {
        let work = Duration::from_micros(micros);
        let load = if pause.is_zero() { "full" } else { "half" };
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|_| [per_job(rayon, slots, work, pause), per_job(channel, slots, work, pause)])
            .collect();
        let of = |figure: fn(&[Spent; 2]) -> f64| rounds.iter().map(figure).collect::<Vec<_>>();
        let ratios = of(|[rayon, channel]| rayon.0 / channel.0);
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "| {micros} us, {load} load | {:.1} | {:.1} | {:.3} | {least:.3} - {most:.3} | {:.2}, {:.2} |",
            median(of(|round| round[0].0)),
            median(of(|round| round[1].0)),
            median(ratios),
            median(of(|round| round[0].1)),
            median(of(|round| round[1].1)),
        );
    }
    println!(
        "\nFrom sleep to work: rayon {:.0} us, channel {:.0} us (medians of {WAKES}).",
        wake_us(rayon),
        wake_us(channel)
    );
    println!("Goal: rayon at most 1.05 times the channel for jobs of 600 us.");
}

fn hand_offs(criterion: &mut Criterion, rayon: &Rayon, channel: &Channel, slots: usize) {
    let mut group = criterion.benchmark_group("lanes");
    group.throughput(Throughput::Elements(1));
    let stop = Stop::default();

    let pool = Pool::new(256 << 20);
    group.bench_function("lease and return a buffer", |bench| {
        bench.iter(|| black_box(pool.lease(FRAME_BYTES, &stop).unwrap()));
    });
    let places = Slots::new(slots, || [0_u8; 64]);
    group.bench_function("take and return a slot", |bench| {
        bench.iter(|| black_box(places.acquire(&stop).unwrap()));
    });

    let (lane, other_end) = bounded::<Box<u64>>(limits::READ_LANE_FRAMES);
    let stop_there = stop.clone();
    let thread = std::thread::spawn(move || {
        let mut sum = 0;
        while let Some(item) = frame::recv(&other_end, &stop_there) {
            sum += *item;
        }
        sum
    });
    group.bench_function("send through a lane to a thread that keeps up", |bench| {
        bench.iter(|| frame::send(&lane, Box::new(1), &stop, "bench").unwrap());
    });
    drop(lane);
    assert!(thread.join().unwrap() > 0);

    group.throughput(Throughput::Elements(64));
    group.bench_function("64 empty jobs through rayon", |bench| {
        bench.iter(|| run_jobs(rayon, 64, slots, Duration::ZERO, Duration::ZERO));
    });
    group.bench_function("64 empty jobs through a channel", |bench| {
        bench.iter(|| run_jobs(channel, 64, slots, Duration::ZERO, Duration::ZERO));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = (threads * limits::SLOTS_PER_WORKER).max(limits::SLOTS_MIN);
    let rayon = Rayon(Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().unwrap()));
    let channel = Channel::new(threads, slots);
    hand_offs(&mut criterion, &rayon, &channel, slots);
    criterion.final_summary();
    // `cargo test --benches` only checks that everything runs.
    if !std::env::args().any(|arg| arg == "--test") {
        table(&rayon, &channel, threads, slots);
    }
}
