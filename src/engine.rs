//! Floor 5: the engine, which wires all modules together.
//!
//! [`Engine::start`] builds every lane, pool, slot and stage before it starts the first thread, so
//! that every refusal comes before a frame is read.

mod plan;
mod server;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::bounded;
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::base::stop::StopOnPanic;
use crate::base::threads::{self, Identity, LoopHook, Role, Running};
use crate::base::{Fault, Stop, limits};
use crate::config::Config;
use crate::frame::{Pool, Slots, waking};
use crate::metrics::Metrics;
use crate::metrics::clock::Tick;
use crate::redis::{Control, Embedded, FaultPoint, Greeting, Lookout, Streams, Topology};
use crate::stage::commit::Committer;
use crate::stage::group::{Groups, Shard};
use crate::stage::keeper::LeaseKeeper;
use crate::stage::lease::Leases;
use crate::stage::process::{
    Cameras, Dispatcher, DispatcherParts, Live, Outgoing, Probe, Work, Workers,
};
use crate::stage::read::StreamReader;
use crate::stage::watch::{DeadLetters, History, Queues, Watcher};

pub use plan::{Plan, all_streams, camera_settings, input_streams};
pub use server::find_server;

/// How often threads are checked while the engine stops.
const LOOK: Duration = Duration::from_millis(20);
/// How often threads are checked while no stop is requested; the longest delay until a failed
/// thread is noticed.
const QUIET_LOOK: Duration = Duration::from_millis(250);

/// Longest single wait for Redis at the start; a stop request has to wait for it.
const PREPARE_LIMIT: Duration = Duration::from_secs(5);

/// Time, after the drain time, for threads to end when told to end at once.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    threads: Vec<Running>,
    /// Kept alive because jobs run on it.
    _workers: Arc<ThreadPool>,
    worker_fault: WorkerFault,
    stop: Stop,
    drain_timeout: Duration,
    view: EngineView,
    /// Kept alive because frames in flight may have to go to another primary.
    _lookout: Option<Lookout>,
    /// Dropped after everything that connects to it.
    _embedded: Option<Embedded>,
}

/// External view of a running engine.
#[derive(Clone, Debug)]
pub struct EngineView {
    /// Counters, latencies, conservation, health.
    pub metrics: Arc<Metrics>,
    /// Cameras seen so far.
    pub cameras: Arc<Cameras>,
    /// Changed only by [`EngineView::reload`].
    live: Live,
    /// State of the queues.
    pub queues: Arc<Mutex<Queues>>,
    /// The latest dead letters.
    pub dead_letters: Arc<Mutex<DeadLetters>>,
    /// Name of the engine that holds each shard, as in the list of engines. Empty for a shard
    /// without holder, or if streams are shared.
    pub holders: Arc<Mutex<Vec<String>>>,
    /// Figures of the last minutes.
    pub history: Arc<Mutex<History>>,
    /// Pool of payload buffers.
    pub pool: Pool,
    /// The Redis topology.
    pub topology: Topology,
    /// The plan the engine was built from.
    pub plan: Arc<Plan>,
}

impl EngineView {
    /// Applies the part of `config` that may change at run time; see
    /// [`Config::take_live`](crate::config::Config::take_live). The rest is ignored: whether
    /// analysis runs and the output format stay as the engine was built. Each picture is processed
    /// wholly with the old or wholly with the new settings.
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
    /// Fault-injection point: called before each operation of a data-plane socket.
    pub fault_point: FaultPoint,
    /// Called by each thread in each loop iteration, and by workers at each job.
    pub loop_hook: LoopHook,
}

impl Engine {
    /// Starts an engine as configured. It runs until `stop` is raised; see [`Engine::wait`].
    ///
    /// Redis is unreachable (with `retry_on_failure`, only after `stop`), the processor does not
    /// support the codecs, or the system refuses threads.
    pub fn start(config: &Config, hooks: Hooks, stop: Stop) -> Result<Engine, Fault> {
        crate::image::supported_cpu()?;
        let loop_hook = hooks.loop_hook.clone();
        loop_hook.call(Role::Build);
        let (topology, embedded) = find_server(&config.redis_queue, &stop)?;
        let topology = topology.through(hooks.fault_point.clone());
        let plan = Arc::new(Plan::new(config, &topology, &hooks));
        let metrics = Metrics::new();
        let groups = Arc::new(make_groups(&plan, &metrics, &stop)?);
        prepare_streams(&plan, &groups, &stop)?;

        let cameras_max = plan.process.cameras_max;
        let cameras = Cameras::new(cameras_max, &plan.process.cameras, Arc::clone(&metrics));
        let queues = Arc::new(Mutex::new(Queues::default()));
        let view = EngineView {
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
        loop_hook.call(Role::Build);
        let threads = start_threads(&view, &groups, &workers, &loop_hook, &stop)?;
        let of = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        tracing::info!(
            "running: {}, {}, {}; {} from {} to {} on {}",
            of(plan.read.len(), "reader"),
            of(plan.workers, "worker"),
            of(plan.committers, "committer"),
            plan.process.live.target.format.name(),
            plan.streams[0].input,
            plan.streams[0].output,
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

    /// The external view of the engine.
    pub fn view(&self) -> &EngineView {
        &self.view
    }

    /// The signal that stops it.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Waits until the engine ends: the stop signal is raised and frames in flight are drained, or
    /// a thread ends by itself. Frames that are not committed within the drain time stay pending in
    /// Redis.
    ///
    /// If the end was not requested, the fault that explains it best.
    pub fn wait(mut self) -> Result<(), Fault> {
        let mut drain_until = None;
        let mut leave_until = None;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            // A thread that ends without a stop request stops the others.
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
                    tracing::warn!(
                        "the engine could not finish all frames within engine.drain_timeout_ms: \
                         {left} frames stay pending in Redis"
                    );
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

    /// Joins the threads that have ended, abandons the others, and returns the most telling fault.
    fn join_threads(&mut self) -> Option<Fault> {
        let mut cause = self.worker_fault.lock().take();
        for thread in self.threads.drain(..) {
            if !thread.is_finished() && !thread.has_panicked() {
                // The thread is in a system call without a time-out, such as a name look-up.
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

    /// Waits for running jobs, which hold the last receipts; none takes long.
    fn leave_workers(&self) {
        let began = Tick::now();
        while self.view.metrics.ledger.read().in_flight > 0 && began.elapsed() < LEAVE_LIMIT {
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // If the caller did not call `wait`, the threads must be told to end before they are
        // joined.
        self.stop.now();
    }
}

/// Ensures that every input stream has its consumer group and that results can be stored. Waits for
/// Redis if so configured.
fn prepare_streams(plan: &Plan, groups: &Groups, stop: &Stop) -> Result<(), Fault> {
    let mut control = Control::new(&plan.topology, plan.timeout.min(PREPARE_LIMIT));
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

/// Checks the server's version now; a server that is too old would otherwise fail only after an
/// engine has died.
fn prepare_server(control: &mut Control) -> Result<(), Fault> {
    let greeting = Greeting::ask(control)?;
    greeting.require(control.topology())?;
    match greeting.lacks() {
        Some(lacks) => tracing::warn!("{greeting}: {lacks}"),
        None => tracing::debug!("{greeting} answers"),
    }
    Ok(())
}

/// Checks the types of the stream keys now; a wrong type would otherwise fail only when the first
/// result is stored.
fn prepare_keys(control: &mut Control, streams: &[Streams]) -> Result<(), Fault> {
    let keys: Vec<&str> = streams.iter().flat_map(Streams::all).map(String::as_str).collect();
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

/// Creates the state of the consumer group of each input stream.
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

/// Whether a fault is permanent, so that retrying does not help.
fn is_final(fault: &Fault) -> bool {
    matches!(fault.redis_code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "WRONGTYPE" | "ERR"))
        || matches!(fault, Fault::Unusable(_))
        || matches!(fault, Fault::Refused { command: "AUTH", .. })
}

/// Panic of a worker outside any frame, reported by [`Engine::wait`].
type WorkerFault = Arc<Mutex<Option<Fault>>>;

fn build_workers(plan: &Plan, fault: &WorkerFault, stop: &Stop) -> Result<Arc<ThreadPool>, Fault> {
    let cores = plan.cores.workers.clone();
    let (fault, stop) = (Arc::clone(fault), stop.clone());
    let pool = ThreadPoolBuilder::new()
        .num_threads(plan.workers)
        .thread_name(|index| threads::name_of(Role::Work, index))
        .start_handler(move |index| threads::pin_current(cores.get(index).copied().flatten()))
        .panic_handler(move |payload| {
            // Jobs catch their own panics, so this is a defect of the engine.
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            let message = threads::panic_message(&*payload);
            fault.lock().get_or_insert(Fault::ThreadPanicked { thread, message });
            stop.now();
        })
        .build()
        .map_err(|error| Fault::Unusable(format!("cannot start the workers: {error}")))?;
    Ok(Arc::new(pool))
}

/// Creates all lanes with their bounds, connects the stages and starts their threads.
fn start_threads(
    view: &EngineView,
    groups: &Arc<Groups>,
    workers: &Arc<ThreadPool>,
    loop_hook: &LoopHook,
    stop: &Stop,
) -> Result<Vec<Running>, Fault> {
    let plan = &view.plan;
    let metrics = &view.metrics;

    // One lane per dispatcher, for frames that are read and not yet dispatched: see
    // `limits::READ_LANE_FRAMES`.
    let (read_lanes, dispatch_lanes): (Vec<_>, Vec<_>) =
        (0..plan.routes.pipelines).map(|_| bounded(limits::READ_LANE_FRAMES)).unzip();
    // The lane to a committer has room for every slot that leads to it, so that workers never block
    // when they pass a frame on.
    let (mut commit_lanes, mut committer_lanes) = (Vec::new(), Vec::new());
    for lane in 0..plan.committers {
        let (sender, receiver) = waking::<Outgoing>(plan.commit_room(lane))?;
        commit_lanes.push(sender);
        committer_lanes.push(receiver);
    }

    // Build every stage before starting any thread.
    let readers: Vec<StreamReader> = plan
        .read
        .iter()
        .map(|settings| {
            let lane = read_lanes[plan.routes.pipeline_of(settings.source.shard)].clone();
            let pool = view.pool.clone();
            StreamReader::new(
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
    drop(read_lanes); // a lane closes when its last reader ends
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
        pipelines: dispatch_lanes.into_iter().map(with_slots).collect(),
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
            Some(LeaseKeeper::new(settings.clone(), leases, groups, holders, stop.clone())?)
        }
        _ => None,
    };

    loop_hook.call(Role::Build);
    // Start from the end of the pipeline, so that every sender already has its receiver.
    let cores = &plan.cores;
    let mut running = Vec::new();
    // Dropped before the handles, whose drop joins the threads.
    let _leave = StopOnPanic { stop: stop.clone(), panicked: Arc::default() };
    for (index, committer) in committers.into_iter().enumerate() {
        let core = cores.committers.get(index).copied().flatten();
        running
            .push(threads::spawn(identity(Role::Commit, index, core), stop, || committer.run())?);
    }
    loop_hook.call(Role::Build);
    for (index, dispatcher) in dispatchers.into_iter().enumerate() {
        let core = cores.dispatchers.get(index).copied().flatten();
        let identity = identity(Role::Dispatch, index, core);
        running.push(threads::spawn(identity, stop, || dispatcher.run())?);
    }
    for (index, reader) in readers.into_iter().enumerate() {
        let core = cores.readers.get(index).copied().flatten();
        running.push(threads::spawn(identity(Role::Read, index, core), stop, || reader.run())?);
    }
    loop_hook.call(Role::Build);
    running.push(threads::spawn(identity(Role::Watch, 0, None), stop, || watcher.run())?);
    if let Some(keeper) = keeper {
        running.push(threads::spawn(identity(Role::Lease, 0, None), stop, || keeper.run())?);
    }
    Ok(running)
}

fn identity(role: Role, index: usize, core: Option<usize>) -> Identity {
    Identity { role, index, core }
}
