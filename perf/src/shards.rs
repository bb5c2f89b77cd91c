//! `shards`: frames per second through a Cluster of three nodes, by number of shards, and the CPU
//! usage of each process.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use framepress::Producer;
use framepress::config::Loader;
use framepress::internals::base::Stop;
use framepress::internals::camera::{Full, ProducerOptions};
use framepress::internals::engine::{self, Engine, Hooks};
use framepress::internals::image::Format;
use framepress::internals::redis::Embedded;
use serde::Serialize;
use tempfile::TempDir;

use framepress::internals::instruments::Size;

use crate::Outcome;
use crate::common::Pictures;

/// Longest run of one number of shards.
const LIMIT: Duration = Duration::from_secs(120);

/// Cameras; enough that every shard has some.
const CAMERAS: u64 = 32;

/// Clock ticks per second in /proc/PID/stat, the same on every current Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Arguments of `shards`.
#[derive(Args)]
pub struct ShardsArgs {
    /// Frames of each run
    #[arg(long, value_name = "N", default_value_t = 2000)]
    frames: u64,
    /// Numbers of shards
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1, 2, 4])]
    shards: Vec<usize>,
    /// First of three consecutive free ports
    #[arg(long, value_name = "PORT", default_value_t = 27_300)]
    port: u16,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Figures of one number of shards.
#[derive(Serialize)]
struct Row {
    shards: usize,
    frames: u64,
    seconds: f64,
    frames_per_second: f64,
    /// Cores kept busy by this process (the engine), and by each node.
    engine_cores: f64,
    node_cores: Vec<f64>,
}

/// Three nodes without replicas; dropping the value ends them.
struct Cluster {
    nodes: Vec<Child>,
    ports: Vec<u16>,
    _folders: Vec<TempDir>,
}

impl Cluster {
    fn start(first_port: u16) -> Outcome<Cluster> {
        let mut cluster = Cluster { nodes: Vec::new(), ports: Vec::new(), _folders: Vec::new() };
        for port in first_port..first_port + 3 {
            let folder = tempfile::tempdir()?;
            let mut command = Command::new(Embedded::program());
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
            command.args(["--cluster-enabled", "yes", "--dir"]).arg(folder.path());
            cluster.nodes.push(command.stdout(Stdio::null()).spawn()?);
            cluster.ports.push(port);
            cluster._folders.push(folder);
        }
        let began = Instant::now();
        while !cluster.answers() {
            if began.elapsed() > Duration::from_secs(20) {
                return Err("the nodes do not come up; are the ports free?".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(cluster.ports.iter().map(|port| format!("127.0.0.1:{port}")));
        let made = create.args(["--cluster-yes"]).output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stdout).into_owned().into());
        }
        Ok(cluster)
    }

    fn answers(&self) -> bool {
        self.ports.iter().all(|port| {
            redis::Client::open(format!("redis://127.0.0.1:{port}"))
                .and_then(|client| client.get_connection_with_timeout(Duration::from_secs(1)))
                .and_then(|mut it| redis::cmd("PING").query::<String>(&mut it))
                .is_ok()
        })
    }

    fn url(&self) -> String {
        let nodes: Vec<String> =
            self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    fn cpu_seconds(&self) -> Vec<f64> {
        self.nodes.iter().map(|node| cpu_seconds(node.id())).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// CPU time of a process so far, in seconds; 0 if it cannot be read.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold any characters; user and system time are 12th and 13th after
    // it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Runs every number of shards and prints a table.
pub fn run(args: &ShardsArgs) -> Outcome<bool> {
    let cluster = Cluster::start(args.port)?;
    let pictures = Pictures::of_a_road(Size::VGA, Format::Jpeg, 4)?;
    let rows: Vec<Row> = args
        .shards
        .iter()
        .map(|&shards| measure(&cluster, shards, args.frames, &pictures))
        .collect::<Outcome<_>>()?;
    println!("shards  frames/s  engine cores  cores of each node");
    for row in &rows {
        let nodes: Vec<String> = row.node_cores.iter().map(|cores| format!("{cores:.2}")).collect();
        println!(
            "{:>6}  {:>8.1}  {:>12.2}  {}",
            row.shards,
            row.frames_per_second,
            row.engine_cores,
            nodes.join(" ")
        );
    }
    let cores = std::thread::available_parallelism()?.get();
    println!(
        "{cores} cores in all: where engine and nodes together keep them busy, the machine is the \
         limit; where one node keeps a whole core busy, that node is, and more shards help"
    );
    if let Some(path) = &args.report {
        fs::write(path, crate::folder::rows(&rows)?)?;
    }
    Ok(true)
}

/// Fills the streams, then lets an engine empty them.
fn measure(cluster: &Cluster, shards: usize, frames: u64, pictures: &Pictures) -> Outcome<Row> {
    let (input, output) = match shards {
        1 => ("{road}:in".to_owned(), "{road}:out".to_owned()),
        _ => (format!("in{shards}"), format!("out{shards}")),
    };
    let config = Loader::new()
        .flag("redis_queue.url", cluster.url())
        .flag("redis_queue.shards", shards.to_string())
        .flag("redis_queue.input_queue", input)
        .flag("redis_queue.output_queue", output)
        .flag("redis_queue.retention", "delete")
        .flag("stats.addr", "null")
        .load()?
        .config;
    let stop = Stop::default();
    let (topology, _) = engine::find_server(&config.redis_queue, &stop)?;
    let mut producer = Producer::connect(
        ProducerOptions {
            topology,
            streams: engine::input_streams(&config),
            length_max: 0,
            wait_replicas: 0,
            timeout: Duration::from_secs(10),
            retry: false,
            full: Full::Block,
            ring: None,
        },
        &stop,
    )?;
    for number in 0..frames {
        let (id, camera) = (format!("frame-{number}"), format!("camera-{}", number % CAMERAS));
        producer.send(&pictures.frame(number, &id, &camera))?;
    }

    let (own, theirs) = (cpu_seconds(std::process::id()), cluster.cpu_seconds());
    let began = Instant::now();
    let engine = Engine::start(&config, Hooks::default(), stop.clone())?;
    let out = || engine.view().metrics.ledger.read().out;
    while out() < frames && began.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(5));
    }
    let seconds = began.elapsed().as_secs_f64();
    let done = out();
    let busy = |now: f64, before: f64| (now - before) / seconds;
    let engine_cores = busy(cpu_seconds(std::process::id()), own);
    let now = cluster.cpu_seconds();
    let node_cores = now.iter().zip(&theirs).map(|(now, before)| busy(*now, *before)).collect();
    stop.drain();
    engine.wait()?;
    if done < frames {
        return Err(format!("{shards} shards: {done} of {frames} within {LIMIT:?}").into());
    }
    let frames_per_second = frames as f64 / seconds;
    Ok(Row { shards, frames, seconds, frames_per_second, engine_cores, node_cores })
}
