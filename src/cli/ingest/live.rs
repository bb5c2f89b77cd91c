//! Live cameras: one from the command line, or all of the configuration.

use std::time::Duration;

use crossbeam_channel::Receiver;

use super::IngestArgs;
use crate::base::{Fault, Stop, descriptors};
use crate::cli::failure::Failure;
use crate::cli::output::out;
use crate::cli::service::logging;
use crate::cli::service::notify::Notifier;
use crate::cli::service::signals::SignalWatch;
use crate::config::{Config, Loader, RedisUrl};
use crate::engine;
use crate::http::IngestServer;
use crate::ingest::{Mode, SendOutcome, Spec, Supervisor};
use crate::metrics::clock::Tick;

/// How often the cameras are checked.
const LOOK: Duration = Duration::from_millis(500);

/// Reads the camera given on the command line.
pub(super) fn one(args: &IngestArgs, camera: &str, url: &str) -> Result<(), Failure> {
    let config = args.common.load(args.common.quiet(args.common.loader()))?.config;
    let known = config.cameras.iter().find(|known| known.id == camera);
    let mut feed = super::feed_of(&config, camera);
    feed.fps = args.fps.filter(|fps| *fps > 0.0).or(feed.fps);
    feed.size = args.size.map(|size| (size.width, size.height)).or(feed.size);
    feed.format = args.format.map_or(feed.format, super::SendFormat::feed);
    feed.transport = args.transport.map_or(feed.transport, Into::into);
    args.with_ring(&mut feed, config.redis_queue.retention)?;
    feed.max_stream_bytes = args.max_stream_bytes.unwrap_or(feed.max_stream_bytes);
    let spec = match known {
        Some(known) => Spec::at(camera, url, feed).like(known),
        None => Spec::at(camera, url, feed),
    };
    spec.check().map_err(Fault::Unusable)?;
    let stop = Stop::default();
    let _signals = SignalWatch::start(&stop)?;
    let _reporter = logging::Reporter::start()?;
    let (topology, _embedded) = engine::find_server(&config.redis_queue, &stop)?;
    let began = Tick::now();
    let mut supervisor = Supervisor::start(&config, topology, mode(args, &config), &stop)?;
    supervisor.read(vec![spec], Vec::new())?;
    while !stop.is_draining() {
        stop.sleep(LOOK);
        supervisor.look_after()?;
    }
    let view = supervisor.view().clone();
    let (end, confirmed) = supervisor.finish();
    let seconds = began.elapsed().as_secs_f64();
    out::line(format!("{confirmed} frames of {camera} sent in {seconds:.1} s"))?;
    for status in view.cameras() {
        let [_, sampled, superseded, damaged] =
            SendOutcome::ALL.map(|outcome| status.frames(outcome));
        if sampled + superseded + damaged > 0 {
            out::line(format!(
                "{sampled} frames were more than --fps, {superseded} were replaced by newer ones, \
                 {damaged} could not be decoded"
            ))?;
        }
    }
    Ok(end?)
}

fn mode(args: &IngestArgs, config: &Config) -> Mode {
    Mode {
        streams: engine::input_streams(config),
        once: args.once,
        frames: args.limit,
        entries_max: args.max_length,
    }
}

/// Reads every camera of the configuration.
pub(super) fn all(args: &IngestArgs) -> Result<(), Failure> {
    if args.follow || args.repeat || args.start_time.is_some() || args.ring.is_some() {
        return Err(Failure::Usage(
            "--follow, --loop, --start-time and --ring need --camera".into(),
        ));
    }
    let config = args.common.load(loader(args))?.config;
    let stop = Stop::default();
    let (hang_up, reload) = crossbeam_channel::bounded(1);
    let _signals = SignalWatch::with_reload(&stop, hang_up)?;
    let _reporter = logging::Reporter::start()?;
    let (specs, disabled) = cameras(&config);
    if specs.is_empty() {
        return Err(Failure::Usage(
            "no camera to read: give --camera and --source, or cameras with a source in the \
             configuration"
                .into(),
        ));
    }
    descriptors::raise();
    let (topology, _embedded) = engine::find_server(&config.redis_queue, &stop)?;
    let mut supervisor = Supervisor::start(&config, topology.clone(), mode(args, &config), &stop)?;
    let view = supervisor.view().clone();
    let server = IngestServer::start(&config, view.clone(), &stop)?;
    let publisher = crate::ingest::StatePublisher::start(&config, topology, view.clone(), &stop)?;
    let notifier = Notifier::start(&stop)?;
    notifier.watch_ingest(&view);
    tracing::info!("{} cameras, {} of them disabled", specs.len() + disabled.len(), disabled.len());
    supervisor.read(specs, disabled)?;
    run(&mut supervisor, args, config, &reload, &stop)?;
    let (end, confirmed) = supervisor.finish();
    publisher.end();
    drop(server);
    tracing::info!("cameras ended, {confirmed} frames sent");
    Ok(end?)
}

/// Supervises the cameras, and reloads the configuration on request.
fn run(
    supervisor: &mut Supervisor,
    args: &IngestArgs,
    mut config: Config,
    reload: &Receiver<()>,
    stop: &Stop,
) -> Result<(), Failure> {
    while !stop.is_draining() {
        let asked = supervisor.wait(reload, LOOK);
        supervisor.look_after()?;
        if !asked {
            continue;
        }
        let new = match loader(args).load() {
            Ok(loaded) => loaded.config,
            Err(error) => {
                tracing::error!(
                    "ingest keeps its configuration, because the new one is wrong\n{error}"
                );
                continue;
            }
        };
        let url = |config: &Config| -> RedisUrl { config.redis_queue.url.clone() };
        if url(&new) != url(&config) || new.ingest.stats != config.ingest.stats {
            tracing::warn!(
                "a change of the Redis server or of the stats server's address takes effect only \
                 after a restart"
            );
        }
        supervisor.adopt(&new);
        let (specs, disabled) = cameras(&new);
        let changed = supervisor.read(specs, disabled)?;
        tracing::info!(
            "configuration read again: {} cameras added, {} removed, {} begun again",
            changed.added.len(),
            changed.removed.len(),
            changed.restarted.len()
        );
        config = new;
    }
    Ok(())
}

/// The cameras to read, and the ids of the disabled ones.
fn cameras(config: &Config) -> (Vec<Spec>, Vec<String>) {
    let with_source = || config.cameras.iter().filter(|camera| camera.has_source());
    let specs = with_source().filter(|camera| camera.enabled).map(Spec::of).collect();
    let disabled = with_source().filter(|camera| !camera.enabled);
    (specs, disabled.map(|camera| camera.id.clone()).collect())
}

fn loader(args: &IngestArgs) -> Loader {
    args.common.loader()
}
