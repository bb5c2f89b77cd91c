//! `framepress demo`: the whole system on one machine, and a report about the run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::common::Common;
use super::failure::Failure;
use super::output::human_bytes;
use super::output::report::{self, Report};
use super::output::{out, progress};
use super::service::logging;
use super::service::signals::SignalWatch;
use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop, descriptors};
use crate::camera::{
    FrameSource, Full, Outbound, Pace, Producer, ProducerOptions, Still, Synthetic,
    SyntheticOptions,
};
use crate::config::{Config, HostPort};
use crate::engine::{Engine, EngineView, Hooks};
use crate::http::{Listener, Serving};
use crate::image::{self, Format};
use crate::instruments::Size;
use crate::metrics::Timer;
use crate::metrics::clock::{Tick, unix_millis, unix_seconds};
use crate::redis::{Control, Streams};

/// How often the progress line is updated on a terminal; on a pipe, a line is printed every
/// [`TICKS_PER_LINE`] ticks.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_LINE: u64 = 50;

/// Maximum bytes of frames waiting in Redis. Above it, the cameras skip frames, like real ones.
const BACKLOG_BYTES_MAX: u64 = 256 << 20;

/// Maximum wait for the last results after the cameras have stopped.
const LAST_RESULTS_LIMIT: Duration = Duration::from_secs(10);

/// Maximum wait for the server to confirm the last frames of a camera.
const LAST_FRAMES_LIMIT: Duration = Duration::from_secs(5);

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress demo\n  \
    framepress demo --seconds 60 --cameras 8 --size 1920x1080 --fps 10 --report report.json")]
pub(super) struct DemoArgs {
    #[command(flatten)]
    common: Common,
    /// How many seconds the cameras film
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many cameras
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    cameras: u32,
    /// Size of the frames
    #[arg(long, value_name = "WxH", default_value = "640x480")]
    size: Size,
    /// Frames per second of each camera
    #[arg(long, value_name = "F", default_value_t = 15.0)]
    fps: f64,
    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Seed of the synthetic road
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Counts of frames sent and skipped by the cameras.
#[derive(Debug, Default)]
struct Filmed {
    sent: AtomicU64,
    skipped: AtomicU64,
}

pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    if !(0.001..=1000.0).contains(&args.fps) {
        return Err(Failure::Usage("--fps: valid: 0.001 to 1000 frames per second".into()));
    }
    args.report.as_deref().map(report::can_be_written).transpose()?;
    let config = configuration(args)?;
    let stop = Stop::default();
    // The first signal ends the filming; the shutdown then proceeds as usual.
    let enough = Stop::default();
    let signals = SignalWatch::start(&enough)?;
    let _reporter = logging::Reporter::start()?;
    let listener = listen(&config)?;
    let engine = Engine::start(&config, Hooks::default(), stop.clone())?;
    let view = engine.view().clone();
    out::line(format!(
        "{} cameras, {} at {} frames/s each, for {} s\nthrough Redis at {}",
        args.cameras, args.size, args.fps, args.seconds, view.topology
    ))?;
    let server = match listener {
        Some(listener) => {
            out::line(format!("see it at http://{}/", listener.addr()))?;
            let token = config.stats.token.clone();
            Some(listener.serve(view.clone(), token, &stop)?)
        }
        None => None,
    };

    let filmed = Arc::new(Filmed::default());
    let scenes = paint_scenes(args, &enough)?;
    let began = Tick::now();
    let filming = start_cameras(args, scenes, &config, &view, &filmed)?;
    watch(args, &view, &filmed, &enough, &stop, began);
    let camera_end = filming.end();
    wait_for_last_results(&view, &filmed, &stop);
    let report = Report::take(&view, &config, began);
    stop.drain();
    let end = engine_end(engine, &view);
    let served = server.map_or(Ok(()), Serving::end);
    drop(signals);
    camera_end.and(end).and(served)?;

    out::line(format!("\n{}", report.to_text()))?;
    let skipped = filmed.skipped.load(Ordering::Relaxed);
    if skipped > 0 {
        out::line(format!(
            "  the cameras skipped {skipped} frames because this machine did not keep up\n"
        ))?;
    }
    if let Some(path) = &args.report {
        report.write(path)?;
        out::line(format!("report written to {}", path.display()))?;
    }
    if !report.is_complete() {
        let text = "not every frame came through; see the report above".to_owned();
        return Err(Fault::Unusable(text).into());
    }
    Ok(())
}

/// Ends the engine and removes the demo's streams, because the server may live on.
fn engine_end(engine: Engine, view: &EngineView) -> Result<(), Fault> {
    let timeout = Duration::from_secs(2);
    for key in view.plan.streams.iter().flat_map(Streams::all) {
        Control::new(&view.topology, timeout).remove(key)?;
    }
    engine.wait()
}

/// The running cameras.
struct Filming {
    stop: Stop,
    cameras: Vec<Running>,
}

impl Filming {
    /// Stops all cameras.
    fn end(mut self) -> Result<(), Fault> {
        self.stop.drain();
        let ends: Vec<_> = self.cameras.drain(..).map(Running::join).collect();
        ends.into_iter().collect()
    }
}

impl Drop for Filming {
    fn drop(&mut self) {
        // Drain before the threads are joined.
        self.stop.drain();
    }
}

/// The configuration, but with a private server unless one is named, and without keeping processed
/// frames: the demo leaves nothing behind.
fn configuration(args: &DemoArgs) -> Result<Config, Failure> {
    let mut loader = args.common.quiet(args.common.loader());
    let named = args.common.redis_url.is_some() || std::env::var_os("REDIS_QUEUE__URL").is_some();
    if !named && args.common.config.is_none() {
        loader = loader.flag("redis_queue.url", "embedded://");
    }
    loader = loader
        .flag("redis_queue.retention", "delete")
        // A user is watching: fail at once instead of retrying.
        .flag("redis_queue.retry_on_failure", "false");
    // Separate streams, because other clients may use the server.
    let run_id = unix_millis();
    loader = loader
        .flag("redis_queue.input_queue", format!("framepress_demo:{run_id}:in"))
        .flag("redis_queue.output_queue", format!("framepress_demo:{run_id}:out"));
    Ok(args.common.load(loader)?.config)
}

/// The configured address; if it is in use, any free port will do for a demo.
fn listen(config: &Config) -> Result<Option<Listener>, Fault> {
    let Some(addr) = &config.stats.addr else { return Ok(None) };
    descriptors::raise();
    let listener =
        Listener::bind(addr).or_else(|_| Listener::bind(&HostPort { port: 0, ..addr.clone() }))?;
    let connections = config.redis_queue.pool_size;
    Ok(Some(listener.with_hosts(&config.stats.hosts).leaving(connections)))
}

/// Painting a scene takes up to a second. Filming starts when all scenes are ready.
fn paint_scenes(args: &DemoArgs, enough: &Stop) -> Result<Vec<Synthetic>, Fault> {
    let Size { width, height } = args.size;
    let (fps, seed) = (args.fps, args.seed);
    (0..args.cameras)
        .take_while(|_| !enough.is_draining())
        .map(|camera| Synthetic::new(SyntheticOptions { width, height, fps, seed, camera }))
        .collect()
}

fn start_cameras(
    args: &DemoArgs,
    scenes: Vec<Synthetic>,
    config: &Config,
    view: &EngineView,
    filmed: &Arc<Filmed>,
) -> Result<Filming, Fault> {
    let mut filming = Filming { stop: Stop::default(), cameras: Vec::new() };
    let frame_bytes = u64::from(args.size.width) * u64::from(args.size.height) * 3;
    let backlog_max = (BACKLOG_BYTES_MAX / frame_bytes.max(1)).max(u64::from(args.cameras) * 2);
    for (number, mut scene) in (1..).zip(scenes) {
        let options = ProducerOptions {
            topology: view.topology.clone(),
            streams: view.plan.streams.iter().map(|streams| streams.input.clone()).collect(),
            length_max: 0,
            wait_replicas: config.redis_queue.wait_replicas,
            timeout: Duration::from_secs(config.redis_queue.timeout),
            retry: false,
            full: Full::Block,
            ring: None,
        };
        let stop = filming.stop.clone();
        let mut producer = Producer::connect(options, &stop)?;
        let (filmed, view, fps) = (Arc::clone(filmed), view.clone(), args.fps);
        let identity = Identity { role: Role::Camera, index: number, core: None };
        filming.cameras.push(threads::spawn(identity, &filming.stop, move || {
            film(&mut scene, &mut producer, number, fps, backlog_max, &view, &filmed, &stop)
        })?);
    }
    Ok(filming)
}

#[allow(clippy::too_many_arguments)] // the whole state of one thread
fn film(
    scene: &mut Synthetic,
    producer: &mut Producer,
    number: usize,
    fps: f64,
    backlog_max: u64,
    view: &EngineView,
    filmed: &Filmed,
    stop: &Stop,
) -> Result<(), Fault> {
    let camera_id = format!("camera-{number}");
    let pace = Pace::new(fps);
    let began = Tick::now();
    let mut still = Still::default();
    for frame in 0.. {
        if pace.as_ref().is_some_and(|pace| stop.sleep(pace.wait(frame, began.elapsed())))
            || stop.is_draining()
            || !scene.next(&mut still)?
        {
            break;
        }
        let account = view.metrics.ledger.read();
        let done = account.read - account.in_flight;
        if filmed.sent.load(Ordering::Relaxed).saturating_sub(done) > backlog_max {
            filmed.skipped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let picture = image::InputImage {
            format: Format::Raw,
            width: still.width,
            height: still.height,
            channels: still.channels,
            layout: Default::default(),
            bytes: &still.bytes,
        };
        let frame_id = format!("{camera_id}-{frame:06}");
        let ticket = producer.enqueue(&Outbound {
            frame_id: &frame_id,
            camera_id: &camera_id,
            timestamp: unix_seconds(),
            picture,
            quality: 0,
        })?;
        if ticket.is_none() {
            break; // a stop was requested while the window was full
        }
        filmed.sent.fetch_add(1, Ordering::Relaxed);
        producer.settle()?;
    }
    let unconfirmed = producer.flush(LAST_FRAMES_LIMIT);
    producer.settle()?;
    // Do not wait for the results of unconfirmed frames.
    filmed.sent.fetch_sub(unconfirmed as u64, Ordering::Relaxed);
    match unconfirmed {
        0 => Ok(()),
        _ => {
            Err(Fault::Unusable(format!("{unconfirmed} frames of {camera_id} were not confirmed")))
        }
    }
}

/// Shows the progress until the time is over or a signal arrives.
fn watch(
    args: &DemoArgs,
    view: &EngineView,
    filmed: &Filmed,
    enough: &Stop,
    stop: &Stop,
    began: Tick,
) {
    let whole = Duration::from_secs(args.seconds);
    let bar = ProgressBar::new(args.seconds * 10);
    let on_terminal = !bar.is_hidden();
    let bar = progress::styled(bar, "{bar:15} {elapsed}/{prefix}  {wide_msg}");
    bar.set_prefix(format!("{} s", args.seconds));
    let mut ticks = 0;
    while began.elapsed() < whole && !stop.is_draining() {
        if enough.sleep(TICK.min(whole.saturating_sub(began.elapsed()))) {
            break;
        }
        ticks += 1;
        let account = view.metrics.ledger.read();
        let latency = view.metrics.distribution(Timer::EndToEnd);
        let line = format!(
            "{} sent, {} out, p99 {:.1} ms, {} in work",
            filmed.sent.load(Ordering::Relaxed),
            account.out,
            latency.quantile_ms(0.99),
            human_bytes(view.pool.usage().leased_bytes as u64),
        );
        if on_terminal {
            bar.set_position(ticks);
            bar.set_message(line);
        } else if ticks % TICKS_PER_LINE == 0 {
            let shown = out::line(format!("{:5.1} s  {line}", began.elapsed().as_secs_f64()));
            // The output was closed, and no report is to be written: there is no reason to
            // continue.
            if shown.is_err() && args.report.is_none() {
                break;
            }
        }
    }
    bar.finish_and_clear();
}

fn wait_for_last_results(view: &EngineView, filmed: &Filmed, stop: &Stop) {
    let began = Tick::now();
    let sent = filmed.sent.load(Ordering::Relaxed);
    while began.elapsed() < LAST_RESULTS_LIMIT {
        let account = view.metrics.ledger.read();
        if account.read >= sent && account.in_flight == 0 {
            break;
        }
        if stop.sleep(Duration::from_millis(5)) {
            break;
        }
    }
}
