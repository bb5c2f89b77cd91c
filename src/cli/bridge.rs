//! `framepress bridge`: moves messages between the Kafka of the previous system and Redis.

use clap::{Args, Subcommand};

use super::common::Common;
use super::failure::Failure;

/// Arguments of `bridge`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress bridge kafka-to-redis --config framepress.yaml\n  \
    framepress bridge redis-to-kafka --config framepress.yaml --format json --image base64\n  \
    framepress bridge compare --config framepress.yaml --seconds 60\n\n\
    Run one process for each direction; it ends at SIGTERM. Section kafka of the configuration\n\
    names the brokers and the topics; docs/migration.md describes a whole migration.")]
pub(super) struct BridgeArgs {
    #[command(subcommand)]
    task: BridgeTask,
}

#[derive(Clone, Debug, Subcommand)]
enum BridgeTask {
    /// Frames: messages of kafka.input_topic become entries of the input stream
    #[command(after_help = "Examples:\n  \
        framepress bridge kafka-to-redis --config framepress.yaml\n  \
        framepress bridge kafka-to-redis --config framepress.yaml --until-caught-up\n\n\
        Each message becomes one entry, exactly once and in the order of its partition: the\n\
        bridge stores the entry and the position after it in one step.")]
    KafkaToRedis(CarryArgs),
    /// Results: entries of the output stream become messages of kafka.output_topic
    #[command(after_help = "Examples:\n  \
        framepress bridge redis-to-kafka --config framepress.yaml\n  \
        framepress bridge redis-to-kafka --config framepress.yaml --format json --image base64\n\n\
        Each entry becomes one message, exactly once: one transaction holds the message and the\n\
        position after it. Consumers need isolation.level=read_committed for this.")]
    RedisToKafka(ResultArgs),
    /// Compare the results of both systems for the same frames
    #[command(after_help = "Examples:\n  \
        framepress bridge compare --config framepress.yaml --seconds 60\n  \
        framepress bridge compare --config framepress.yaml --json")]
    Compare(CompareArgs),
}

#[derive(Clone, Debug, Args)]
struct CarryArgs {
    #[command(flatten)]
    common: Common,
    /// End with exit code 0 once everything that existed at the start has been moved
    #[arg(long)]
    until_caught_up: bool,
    /// Address of the statistics server; `null` for none
    #[arg(long, value_name = "ADDR")]
    stats_addr: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct ResultArgs {
    #[command(flatten)]
    carry: CarryArgs,
    /// Format of results: json, with the fields of the old processor, or protobuf [default:
    /// kafka.format]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Picture in JSON results: none or base64 [default: kafka.image]
    #[arg(long, value_name = "HOW")]
    image: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct CompareArgs {
    #[command(flatten)]
    common: Common,
    /// Number of seconds for which to read the results of both systems
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[cfg(not(feature = "kafka"))]
pub(super) fn run(_args: &BridgeArgs) -> Result<(), Failure> {
    Err(Failure::Usage("this build has no bridge; build it with --features kafka".into()))
}

#[cfg(feature = "kafka")]
pub(super) fn run(args: &BridgeArgs) -> Result<(), Failure> {
    use crate::bridge::Direction;
    match &args.task {
        BridgeTask::KafkaToRedis(carry) => {
            let loader = with_addr(carry, "kafka.stats.kafka_to_redis");
            work::carry(carry, loader, Direction::KafkaToRedis)
        }
        BridgeTask::RedisToKafka(args) => {
            let mut loader = with_addr(&args.carry, "kafka.stats.redis_to_kafka");
            for (key, value) in [("kafka.format", &args.format), ("kafka.image", &args.image)] {
                if let Some(value) = value {
                    loader = loader.flag(key, value);
                }
            }
            work::carry(&args.carry, loader, Direction::RedisToKafka)
        }
        BridgeTask::Compare(args) => work::compare(args),
    }
}

#[cfg(feature = "kafka")]
fn with_addr(carry: &CarryArgs, key: &str) -> crate::config::Loader {
    let loader = carry.common.loader();
    match &carry.stats_addr {
        Some(addr) => loader.flag(key, addr),
        None => loader,
    }
}

#[cfg(feature = "kafka")]
mod work {
    use std::fmt::Write;
    use std::time::Duration;

    use super::*;
    use crate::base::{Stop, descriptors};
    use crate::bridge::{self, Agreement, Bridge, Comparison, Difference, Direction, Setup, Side};
    use crate::cli::output::{out, progress};
    use crate::cli::service::logging;
    use crate::cli::service::notify::Notifier;
    use crate::cli::service::signals::SignalWatch;
    use crate::config::Loader;
    use crate::engine;
    use crate::http::BridgeServer;
    use crate::metrics::clock::Tick;

    /// How often the bridge's state is checked.
    const LOOK: Duration = Duration::from_millis(200);

    /// Moves messages until a stop.
    pub(super) fn carry(
        args: &CarryArgs,
        loader: Loader,
        direction: Direction,
    ) -> Result<(), Failure> {
        let config = args.common.load(loader)?.config;
        let stop = Stop::default();
        let _signals = SignalWatch::start(&stop)?;
        let _reporter = logging::Reporter::start()?;
        descriptors::raise();
        let notifier = Notifier::start(&stop)?;
        let (topology, _embedded) = engine::find_server(&config.redis_queue, &stop)?;
        let setup = Setup {
            streams: engine::all_streams(&config),
            config: config.clone(),
            topology,
            until_caught_up: args.until_caught_up,
        };
        let bridge = Bridge::start(direction, setup, &stop)?;
        let status = bridge.status().clone();
        let server = BridgeServer::start(&config, &status, &stop)?;
        notifier.watch_bridge(&status);
        let bar = progress::bar(None, "messages");
        let mut summed_up = Tick::now();
        while !bridge.is_over() {
            std::thread::sleep(LOOK);
            bar.set_position(status.messages());
            let every = Duration::from_secs(config.log.summary_seconds);
            if !every.is_zero() && summed_up.elapsed() >= every {
                summed_up = Tick::now();
                tracing::info!("{}", status.summary());
            }
        }
        bar.finish_and_clear();
        let end = bridge.wait();
        drop(server);
        tracing::info!("done: {}", status.summary());
        Ok(end?)
    }

    /// Compares results.
    pub(super) fn compare(args: &CompareArgs) -> Result<(), Failure> {
        let config = args.common.load(args.common.quiet(args.common.loader()))?.config;
        let stop = Stop::default();
        let _signals = SignalWatch::start(&stop)?;
        let (topology, _embedded) = engine::find_server(&config.redis_queue, &stop)?;
        let setup = Setup {
            streams: engine::all_streams(&config),
            config,
            topology,
            until_caught_up: false,
        };
        let time = Duration::from_secs(args.seconds);
        let found =
            progress::waiting("results of both systems", || bridge::compare(&setup, time, &stop))?;
        if args.json {
            let text = serde_json::to_string_pretty(&found).unwrap_or_default();
            return out::json(&text);
        }
        out::line(table(&found))
    }

    /// A comparison as text.
    fn table(found: &Comparison) -> String {
        let mut text = String::new();
        let Comparison { old, new, both, late, .. } = found;
        let _ = writeln!(text, "{both} frames with a result of both, in {:.0} s", found.seconds);
        if found.is_cut {
            let _ =
                writeln!(text, "there were more than could be kept; the first ones are compared");
        }
        let _ = writeln!(text, "\n{:<24}{:>14}{:>14}", "", "old", "new");
        let mut row = |name: &str, values: [String; 2]| {
            let _ = writeln!(text, "{name:<24}{:>14}{:>14}", values[0], values[1]);
        };
        let sides = |of: fn(&Side) -> String| [of(old), of(new)];
        row("results", sides(|it| it.results.to_string()));
        row("missing", sides(|it| it.missing.to_string()));
        row("doubled", sides(|it| it.doubled.to_string()));
        row("unreadable", sides(|it| it.unreadable.to_string()));
        row("later by a second", late.map(|count| count.to_string()));
        row("latency p50, ms", sides(|it| format!("{:.1}", it.latency_ms_p50)));
        row("latency p99, ms", sides(|it| format!("{:.1}", it.latency_ms_p99)));
        row("bytes of a result", sides(|it| format!("{:.0}", it.bytes_mean)));
        let _ = writeln!(
            text,
            "\n{:<24}{:>8}{:>10}{:>12}{:>12}",
            "", "frames", "equal", "mean diff", "largest"
        );
        for Agreement { name, frames, equal, difference_mean, difference_max } in &found.agreement {
            let equal = format!("{:.1} %", equal * 100.0);
            let _ = writeln!(
                text,
                "{name:<24}{frames:>8}{equal:>10}{difference_mean:>12.3}{difference_max:>12.3}"
            );
        }
        for (side, name) in [(old, "old"), (new, "new")] {
            if !side.missing_frames.is_empty() {
                let _ = writeln!(text, "\nmissing in {name}: {}", side.missing_frames.join(", "));
            }
        }
        if !found.differences.is_empty() {
            let _ = writeln!(text, "\nframes that differ most:");
        }
        for Difference { frame_id, camera_id, name, old, new } in &found.differences {
            let _ = writeln!(text, "  {camera_id} {frame_id}: {name} was {old}, is {new}");
        }
        text.trim_end().to_owned()
    }
}
