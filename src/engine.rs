//! Floor 5: the engine, the only place that sees every room.
//!
//! [`Engine::start`] makes every lane, pool and slot, builds every stage, and only then starts
//! the first thread: whatever can be refused is refused before a frame has been read.

mod plan;
mod server;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::bounded;
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::base::stop::StopOnPanic;
use crate::base::threads::{self, Identity, Role, Running, Turn};
use crate::base::{Fault, Stop, limits};
use crate::config::Config;
use crate::frame::{Pool, Slots, waking};
use crate::metrics::Metrics;
use crate::metrics::clock::Tick;
use crate::redis::{Control, Embedded, Greeting, Lookout, Seam, Topology};
use crate::stage::commit::Committer;
use crate::stage::group::{Groups, Shard};
use crate::stage::lease::{Keeper, Leases};
use crate::stage::process::{
    Cameras, Dispatcher, DispatcherParts, Live, Outgoing, Probe, Work, Workers,
};
use crate::stage::read::Reader;
use crate::stage::watch::{DeadLetters, History, Queues, Watcher};

pub use plan::{Plan, all_streams, camera_settings, input_streams};
pub use server::find_server;

/// How often threads are looked after while the engine runs.
const LOOK: Duration = Duration::from_millis(20);
/// The same while no stop was asked for: a thread that ends by a fault is noticed so late.
const QUIET_LOOK: Duration = Duration::from_millis(250);

/// Longest single wait for Redis at the start; a stop waits for it.
const PREPARE_LIMIT: Duration = Duration::from_secs(5);

/// Beyond the drain time: for threads to notice that they are to leave at once.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    threads: Vec<Running>,
    /// Kept until the end: the jobs run on it.
    _workers: Arc<ThreadPool>,
    worker_fault: WorkerFault,
    stop: Stop,
    drain_timeout: Duration,
    view: View,
    /// Kept until the end: what is in hand may have to go to another primary.
    _lookout: Option<Lookout>,
    /// Ended after everything that talks to it.
    _embedded: Option<Embedded>,
}

/// What can be seen of an engine from outside while it runs.
#[derive(Clone, Debug)]
pub struct View {
    /// Counters, latencies, conservation, health.
    pub metrics: Arc<Metrics>,
    /// The cameras seen.
    pub cameras: Arc<Cameras>,
    /// Changed by [`View::reload`] alone.
    live: Live,
    /// How the queues stand.
    pub queues: Arc<Mutex<Queues>>,
    /// The latest dead letters.
    pub dead_letters: Arc<Mutex<DeadLetters>>,
    /// The engine that holds each shard, by its name in the list of engines; empty where none does, or
    /// where streams are shared.
    pub holders: Arc<Mutex<Vec<String>>>,
    /// The last minutes.
    pub history: Arc<Mutex<History>>,
    /// Buffers.
    pub pool: Pool,
    /// Where Redis is.
    pub topology: Topology,
    /// What the engine was built from.
    pub plan: Arc<Plan>,
}

impl View {
    /// Has the engine go on by the part of `config` that may change while it runs; see
    /// [`Config::take_live`](crate::config::Config::take_live). The rest of it counts for nothing
    /// here, whoever calls: analysis goes on or stays away, and the format stays, as the engine was
    /// built. Each picture is made wholly by the old or wholly by the new.
    pub fn reload(&self, config: &Config) {
        self.live.store(Arc::new(self.plan.live(config)));
        self.cameras.reconfigure(plan::all_camera_settings(config));
        self.plan.watch.feeds.configure(plan::with_source(config));
    }
}

/// Hooks for tests and embedding programs.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Called with each frame id before the frame is decoded.
    pub probe: Option<Probe>,
    /// Asked before each operation of a data-plane socket.
    pub seam: Seam,
    /// Called by each thread at each turn, by workers at each job.
    pub turn: Turn,
}

impl Engine {
    /// Starts an engine as configured. It runs until `stop` is raised; see [`Engine::wait`].
    ///
    /// # Errors
    /// Whatever keeps it from starting: Redis not there (with `retry_on_failure`, only after
    /// `stop`), codecs that do not fit the processor, threads refused by the system.
    pub fn start(config: &Config, hooks: Hooks, stop: Stop) -> Result<Engine, Fault> {
        crate::image::supported_cpu()?;
        let turn = hooks.turn.clone();
        turn.begins(Role::Build);
        let (topology, embedded) = find_server(&config.redis_queue, &stop)?;
        let topology = topology.through(hooks.seam.clone());
        let plan = Arc::new(Plan::new(config, &topology, &hooks));
        let metrics = Metrics::new();
        let groups = Arc::new(make_groups(&plan, &metrics, &stop)?);
        prepare_streams(&plan, &groups, &stop)?;

        let cameras_max = plan.process.cameras_max;
        let cameras = Cameras::new(cameras_max, &plan.process.cameras, Arc::clone(&metrics));
        let queues = Arc::new(Mutex::new(Queues::default()));
        let view = View {
            metrics: Arc::clone(&metrics),
            cameras,
            live: Arc::new(ArcSwap::from_pointee(plan.process.live.clone())),
            queues,
            dead_letters: Arc::default(),
            history: Arc::default(),
            holders: Arc::default(),
            pool: Pool::new(plan.inflight_bytes_max),
            topology,
            plan: Arc::clone(&plan),
        };
        let worker_fault = WorkerFault::default();
        let workers = build_workers(&plan, &worker_fault, &stop)?;
        turn.begins(Role::Build);
        let threads = start_threads(&view, &groups, &workers, &turn, &stop)?;
        let of = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        tracing::info!(
            "running: {}, {}, {}; {} from {} to {} on {}",
            of(plan.read.len(), "reader"),
            of(plan.workers, "worker"),
            of(plan.committers, "committer"),
            plan.process.live.target.format.name(),
            plan.streams[0][0],
            plan.streams[0][1],
            plan.topology,
        );
        let drain_timeout = plan.drain_timeout;
        let lookout = Lookout::start(&plan.topology, &stop)?;
        Ok(Engine {
            threads,
            _workers: workers,
            worker_fault,
            stop,
            drain_timeout,
            view,
            _lookout: lookout,
            _embedded: embedded,
        })
    }

    /// What can be seen of it.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The signal that stops it.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Waits for the end: until the stop signal is raised and what is in hand is drained, or
    /// until a thread ends by itself. Frames that are not committed within the drain time stay
    /// pending in Redis.
    ///
    /// # Errors
    /// The fault that explains the end best, if it was not asked for.
    pub fn wait(mut self) -> Result<(), Fault> {
        let mut drain_until = None;
        let mut leave_until = None;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            // A thread that ends while nobody asked it to takes the others with it.
            if !self.stop.is_draining() && self.threads.iter().any(Running::is_finished) {
                self.stop.drain();
            }
            if self.stop.is_now() {
                let until = *leave_until.get_or_insert_with(|| Tick::now().after(LEAVE_LIMIT));
                if Tick::now() >= until {
                    break;
                }
                std::thread::sleep(LOOK);
            } else if self.stop.is_draining() {
                let until = Tick::now().after(self.drain_timeout);
                if Tick::now() >= *drain_until.get_or_insert(until) {
                    let left = self.view.metrics.ledger.read().in_flight;
                    tracing::warn!("not drained in time: {left} frames stay pending in Redis");
                    self.stop.now();
                }
                self.stop.sleep_unless_now(LOOK);
            } else {
                self.stop.sleep(QUIET_LOOK);
            }
        }
        let cause = self.join_threads();
        self.leave_workers();
        cause.map_or(Ok(()), Err)
    }

    /// Joins what has ended, gives up what has not, and folds their faults into one.
    fn join_threads(&mut self) -> Option<Fault> {
        let mut cause = self.worker_fault.lock().take();
        for thread in self.threads.drain(..) {
            if !thread.is_finished() && !thread.has_panicked() {
                // In a system call without a limit, such as a name look-up.
                thread.abandon();
            } else if let Err(fault) = thread.join() {
                cause = Some(match cause {
                    Some(known) => known.more_telling(fault),
                    None => fault,
                });
            }
        }
        cause
    }

    /// Jobs that are still running hold the last receipts; none takes long.
    fn leave_workers(&self) {
        let began = Tick::now();
        while self.view.metrics.ledger.read().in_flight > 0 && began.elapsed() < LEAVE_LIMIT {
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // For those who do not wait: the threads must not be waited for without being told.
        self.stop.now();
    }
}

/// Makes sure that every input stream has its group and that results can be stored, waiting for
/// Redis if so configured.
fn prepare_streams(plan: &Plan, groups: &Groups, stop: &Stop) -> Result<(), Fault> {
    let mut control = Control::new(&plan.topology, plan.timeout.min(PREPARE_LIMIT))?;
    let mut pause = limits::BACKOFF_FIRST;
    loop {
        let prepared = prepare_server(&mut control)
            .and_then(|()| prepare_keys(&mut control, &plan.streams))
            .and_then(|()| groups.prepare(&mut control));
        match prepared {
            Ok(()) => return Ok(()),
            Err(fault) if !plan.retry || is_final(&fault) => return Err(fault),
            Err(fault) => {
                tracing::warn!("{fault}; trying again in {pause:?}");
                if stop.sleep(pause) {
                    return Err(fault);
                }
                pause = (pause * 2).min(limits::BACKOFF_LONGEST);
            }
        }
    }
}

/// A server that is too old would only show when an engine has died.
fn prepare_server(control: &mut Control) -> Result<(), Fault> {
    let greeting = Greeting::ask(control)?;
    greeting.require(control.topology())?;
    match greeting.lacks() {
        Some(lacks) => tracing::warn!("{greeting}: {lacks}"),
        None => tracing::debug!("{greeting} answers"),
    }
    Ok(())
}

/// A key of another type would only show when the first result cannot be stored.
fn prepare_keys(control: &mut Control, streams: &[[String; 3]]) -> Result<(), Fault> {
    let keys: Vec<&str> = streams.iter().flatten().map(String::as_str).collect();
    for (key, kind) in keys.iter().zip(control.kinds(&keys)?) {
        if !matches!(kind.as_str(), "stream" | "none") {
            return Err(Fault::Unusable(format!(
                "{key} at {} is a {kind}, not a stream; choose another name",
                control.topology()
            )));
        }
    }
    Ok(())
}

/// What is known of the group of each input stream; nothing yet.
fn make_groups(plan: &Plan, metrics: &Arc<Metrics>, stop: &Stop) -> Result<Groups, Fault> {
    let shards = plan.streams.iter().enumerate().map(|(shard, streams)| {
        let sources = plan.read.iter().map(|settings| &settings.source);
        let of_shard = sources.filter(|source| source.shard == shard);
        let consumers = of_shard.map(|source| source.consumer.clone());
        Shard::new(streams.clone(), consumers.collect(), metrics)
    });
    let (shards, metrics) = (shards.collect(), Arc::clone(metrics));
    let retention = plan.commit.plan.retention;
    let group = &plan.group;
    let leases = plan.lease.as_ref().map(|(keeper, terms)| {
        let keys = keeper.own.iter().map(|&shard| keeper.keys[shard].clone()).collect();
        let leases = Leases::new(terms.clone(), keys, Arc::clone(&metrics));
        (Arc::new(leases), keeper.engines.clone())
    });
    let groups = Groups::new(&plan.topology, group, retention, shards, metrics, stop.clone())?;
    Ok(match leases {
        None => groups,
        Some((leases, engines)) => groups.under(leases, engines),
    })
}

/// Refusals that waiting does not change.
fn is_final(fault: &Fault) -> bool {
    matches!(fault.redis_code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "WRONGTYPE" | "ERR"))
        || matches!(fault, Fault::Unusable(_))
        || matches!(fault, Fault::Refused { command: "AUTH", .. })
}

/// The panic of a worker outside any frame, for whoever waits for the engine.
type WorkerFault = Arc<Mutex<Option<Fault>>>;

fn build_workers(plan: &Plan, fault: &WorkerFault, stop: &Stop) -> Result<Arc<ThreadPool>, Fault> {
    let cores = plan.cores.workers.clone();
    let (fault, stop) = (Arc::clone(fault), stop.clone());
    let pool = ThreadPoolBuilder::new()
        .num_threads(plan.workers)
        .thread_name(|index| threads::name_of(Role::Work, index))
        .start_handler(move |index| threads::pin_current(cores.get(index).copied().flatten()))
        .panic_handler(move |payload| {
            // Jobs catch their own panics, so this is a fault of the engine itself.
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            let message = threads::panic_message(&*payload);
            fault.lock().get_or_insert(Fault::ThreadPanicked { thread, message });
            stop.now();
        })
        .build()
        .map_err(|error| Fault::Unusable(format!("cannot start the workers: {error}")))?;
    Ok(Arc::new(pool))
}

/// The wiring. Every lane and its bound is here.
fn start_threads(
    view: &View,
    groups: &Arc<Groups>,
    workers: &Arc<ThreadPool>,
    turn: &Turn,
    stop: &Stop,
) -> Result<Vec<Running>, Fault> {
    let plan = &view.plan;
    let metrics = &view.metrics;

    // Frames of each way that are read and not yet dispatched: see `limits::READ_LANE_FRAMES`.
    let (read_lanes, dispatch_lanes): (Vec<_>, Vec<_>) =
        (0..plan.routes.ways).map(|_| bounded(limits::READ_LANE_FRAMES)).unzip();
    // A lane to each committer has room for every slot that leads to it, so that no worker waits to
    // hand on.
    let (mut commit_lanes, mut committer_lanes) = (Vec::new(), Vec::new());
    for lane in 0..plan.committers {
        let (sender, receiver) = waking::<Outgoing>(plan.commit_room(lane))?;
        commit_lanes.push(sender);
        committer_lanes.push(receiver);
    }

    // Build everything before starting anything.
    let readers: Vec<Reader> = plan
        .read
        .iter()
        .map(|settings| {
            let lane = read_lanes[plan.routes.way_of(settings.source.shard)].clone();
            let pool = view.pool.clone();
            Reader::new(
                settings.clone(),
                Arc::clone(groups),
                Arc::clone(&view.live),
                pool,
                Arc::clone(metrics),
                stop.clone(),
                lane,
            )
        })
        .collect();
    drop(read_lanes); // each closes when its last reader ends
    let with_slots = |lane| (lane, Slots::new(plan.slots, Work::default));
    let parts = DispatcherParts {
        workers: Workers::new(
            plan.workers,
            plan.process.pixels_max,
            plan.process.payload_bytes_max,
            metrics,
        )?,
        threads: Arc::clone(workers),
        groups: Arc::clone(groups),
        pool: view.pool.clone(),
        cameras: Arc::clone(&view.cameras),
        live: Arc::clone(&view.live),
        ways: dispatch_lanes.into_iter().map(with_slots).collect(),
        lanes: commit_lanes,
    };
    let dispatchers = Dispatcher::all(plan.process.clone(), parts, Arc::clone(metrics), stop);
    let committers: Vec<Committer<_>> = committer_lanes
        .into_iter()
        .enumerate()
        .map(|(index, lane)| {
            let (settings, groups) = (plan.commit.clone(), Arc::clone(groups));
            let shards = (0..plan.streams.len()).filter(|&it| plan.routes.leads_to(it, index));
            let (shards, metrics) = (shards.collect(), Arc::clone(metrics));
            Committer::new(index, shards, settings, groups, metrics, stop.clone(), lane)
        })
        .collect();
    let watcher = Watcher::new(
        plan.watch.clone(),
        Arc::clone(&view.queues),
        Arc::clone(&view.dead_letters),
        Arc::clone(&view.history),
        Arc::clone(metrics),
        Arc::clone(groups),
        stop.clone(),
    );

    let keeper = match (&plan.lease, groups.leases()) {
        (Some((settings, _)), Some(leases)) => {
            let (leases, groups) = (Arc::clone(leases), Arc::clone(groups));
            let holders = Arc::clone(&view.holders);
            Some(Keeper::new(settings.clone(), leases, groups, holders, stop.clone())?)
        }
        _ => None,
    };

    turn.begins(Role::Build);
    // Start from the end of the line, so that whoever sends has somebody who receives.
    let cores = &plan.cores;
    let mut running = Vec::new();
    // Dropped before the handles, which wait for their threads.
    let _leave = StopOnPanic { stop: stop.clone(), panicked: Arc::default() };
    for (index, committer) in committers.into_iter().enumerate() {
        let core = cores.committers.get(index).copied().flatten();
        running
            .push(threads::spawn(identity(Role::Commit, index, core), stop, || committer.run())?);
    }
    turn.begins(Role::Build);
    for (index, dispatcher) in dispatchers.into_iter().enumerate() {
        let core = cores.dispatchers.get(index).copied().flatten();
        let identity = identity(Role::Dispatch, index, core);
        running.push(threads::spawn(identity, stop, || dispatcher.run())?);
    }
    for (index, reader) in readers.into_iter().enumerate() {
        let core = cores.readers.get(index).copied().flatten();
        running.push(threads::spawn(identity(Role::Read, index, core), stop, || reader.run())?);
    }
    turn.begins(Role::Build);
    running.push(threads::spawn(identity(Role::Watch, 0, None), stop, || watcher.run())?);
    if let Some(keeper) = keeper {
        running.push(threads::spawn(identity(Role::Lease, 0, None), stop, || keeper.run())?);
    }
    Ok(running)
}

fn identity(role: Role, index: usize, core: Option<usize>) -> Identity {
    Identity { role, index, core }
}
