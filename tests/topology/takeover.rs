//! Engines that die, stop, resume and restart under load, while each shard is held under a lease.

use std::collections::BTreeMap;
use std::time::Duration;

use framepress::config::Config;
use framepress::internals::base::Stop;
use framepress::internals::base::threads::{self, Identity, Role, Running};
use framepress::internals::camera::{Full, Producer, ProducerOptions, Reuse, RingUse};
use framepress::internals::engine;
use framepress::internals::metrics::clock::Tick;
use framepress::internals::ring::RingOptions;
use redis::Connection;

use crate::support::{
    Cluster, Load, Process, Sentinels, Server, assert_every_entry_once, config, frame, is_done,
    longest_gap, out_of_order, picture, producer, wait_until,
};

const LEASE_MS: &str = "1000";

/// Allowed time of a takeover beyond the lease.
const BEYOND: Duration = Duration::from_secs(1);

/// Connects to the server that has a key.
type Connect = dyn Fn(&str) -> Option<Connection>;

/// A Redis deployment, addressed by key.
struct World {
    url: String,
    shards: usize,
    connect: Box<Connect>,
}

impl World {
    fn of(server: &Server, shards: usize) -> World {
        let port = server.port;
        let connect = move |_: &str| {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).ok()?;
            client.get_connection().ok()
        };
        World { url: format!("redis://127.0.0.1:{port}"), shards, connect: Box::new(connect) }
    }

    fn key(&self, name: &str, shard: usize) -> String {
        if self.shards == 1 { name.to_owned() } else { format!("{name}:{{{shard}}}") }
    }

    fn input(&self, shard: usize) -> String {
        self.key("camera_frames", shard)
    }

    fn output(&self, shard: usize) -> String {
        self.key("processed_frames", shard)
    }

    fn at(&self, key: &str) -> Connection {
        (self.connect)(key).expect("the server of this test answers")
    }

    fn flags(&self) -> Vec<(&'static str, String)> {
        vec![
            ("redis_queue.shards", self.shards.to_string()),
            ("redis_queue.assignment", "exclusive".into()),
            ("redis_queue.lease_ms", LEASE_MS.into()),
        ]
    }

    fn engine(&self, name: &str) -> Process {
        let flags = self.flags();
        let flags: Vec<(&str, &str)> = flags.iter().map(|(key, it)| (*key, it.as_str())).collect();
        Process::run(&self.url, name, &flags)
    }

    fn config(&self) -> Config {
        let flags = self.flags();
        let flags: Vec<(&str, &str)> = flags.iter().map(|(key, it)| (*key, it.as_str())).collect();
        config(&self.url, &flags)
    }

    /// How many shards each engine holds, by its consumer name.
    fn holders(&self) -> BTreeMap<String, usize> {
        let mut holders = BTreeMap::new();
        for shard in 0..self.shards {
            let key = format!("{}:lease", self.input(shard));
            let Some(mut connection) = (self.connect)(&key) else { continue };
            let holder: redis::RedisResult<Option<String>> =
                redis::cmd("HGET").arg(&key).arg("holder").query(&mut connection);
            let holder = holder.ok().flatten().unwrap_or_default();
            let name = holder.split('~').next().unwrap_or_default().to_owned();
            *holders.entry(name).or_default() += 1;
        }
        holders
    }

    /// Waits until exactly these engines hold shards, evenly distributed.
    #[track_caller]
    fn wait_for_balance(&self, names: &[&str]) {
        let least = self.shards / names.len();
        let most = self.shards.div_ceil(names.len());
        wait_until(&format!("the shards are held by {names:?}"), || {
            let holders = self.holders();
            let is_share =
                |name: &&&str| (least..=most).contains(holders.get(**name).unwrap_or(&0));
            names.iter().filter(is_share).count() == names.len()
                && holders.keys().all(|holder| names.contains(&holder.as_str()))
        });
    }

    /// Waits until all entries are done, and asserts that each has one result, in order.
    #[track_caller]
    fn check(&self) -> usize {
        wait_until("every entry is done", || {
            (0..self.shards).all(|shard| {
                let input = self.input(shard);
                (self.connect)(&input).is_some_and(|mut it| is_done(&mut it, &input))
            })
        });
        let mut entries = 0;
        for shard in 0..self.shards {
            let (input, output) = (self.input(shard), self.output(shard));
            let (inputs, outputs) = (&mut self.at(&input), &mut self.at(&output));
            entries += assert_every_entry_once((inputs, &input), (outputs, &output));
            assert_eq!(out_of_order(outputs, &output), 0, "{output}: out of order");
        }
        entries
    }

    fn longest_gap(&self) -> Duration {
        let gap = |shard: usize| {
            let output = self.output(shard);
            longest_gap(&mut self.at(&output), &[output])
        };
        (0..self.shards).map(gap).max().unwrap_or_default()
    }
}

fn lease() -> Duration {
    Duration::from_millis(LEASE_MS.parse().unwrap())
}

#[test]
fn a_killed_engine_is_replaced_within_a_lease_and_a_second() {
    let server = Server::start(&[]);
    let world = World::of(&server, 6);
    let mut engines: Vec<Process> = ["one", "two", "three"].map(|name| world.engine(name)).into();
    world.wait_for_balance(&["one", "two", "three"]);
    let load = Load::start(&world.config());
    load.wait_for_more(300);
    engines[0].kill();
    world.wait_for_balance(&["two", "three"]);
    load.wait_for_more(300);
    let sent = load.stop();
    assert_eq!(world.check(), sent);
    let gap = world.longest_gap();
    println!("kill -9: {sent} frames, longest gap of a camera {gap:?}, lease {:?}", lease());
    assert!(gap <= lease() + BEYOND, "{gap:?}");
}

#[test]
fn an_engine_that_wakes_after_its_lease_changes_nothing() {
    let server = Server::start(&[]);
    let world = World::of(&server, 4);
    let engines = ["one", "two"].map(|name| world.engine(name));
    world.wait_for_balance(&["one", "two"]);
    let load = Load::start(&world.config());
    for _ in 0..3 {
        load.wait_for_more(200);
        engines[0].freeze();
        world.wait_for_balance(&["two"]);
        load.wait_for_more(200);
        engines[0].wake();
        world.wait_for_balance(&["one", "two"]);
    }
    load.wait_for_more(200);
    let sent = load.stop();
    assert_eq!(world.check(), sent);
    let gap = world.longest_gap();
    println!("SIGSTOP, SIGCONT three times: {sent} frames, longest gap of a camera {gap:?}");
    assert!(gap <= lease() + BEYOND, "{gap:?}");
}

#[test]
fn a_rolling_restart_stalls_no_camera_for_more_than_half_a_second() {
    let server = Server::start(&[]);
    let world = World::of(&server, 6);
    let names = ["one", "two", "three"];
    let mut engines: Vec<Process> = names.map(|name| world.engine(name)).into();
    world.wait_for_balance(&names);
    let load = Load::start(&world.config());
    load.wait_for_more(200);
    let mut longest_stop = Duration::ZERO;
    for name in names {
        let engine = engines.remove(0);
        assert_eq!(engine.name(), name);
        let began = Tick::now();
        engine.terminate();
        longest_stop = longest_stop.max(began.elapsed());
        load.wait_for_more(100);
        engines.push(world.engine(name));
        world.wait_for_balance(&names);
        load.wait_for_more(100);
    }
    let sent = load.stop();
    assert_eq!(world.check(), sent);
    let gap = world.longest_gap();
    println!(
        "rolling restart of three: {sent} frames, longest gap of a camera {gap:?}, longest stop \
         {longest_stop:?}"
    );
    assert!(gap <= Duration::from_millis(500), "{gap:?}");
}

#[test]
fn with_one_shard_an_engine_stands_by() {
    let server = Server::start(&[]);
    let world = World::of(&server, 1);
    let mut engines = BTreeMap::from(["one", "two"].map(|name| (name, world.engine(name))));
    wait_until("one engine holds the stream", || !world.holders().contains_key(""));
    let load = Load::start(&world.config());
    load.wait_for_more(200);
    let holder = world.holders().into_keys().next().unwrap();
    engines.get_mut(holder.as_str()).unwrap().kill();
    wait_until("the other one holds it", || !world.holders().contains_key(&holder));
    load.wait_for_more(300);
    let sent = load.stop();
    assert_eq!(world.check(), sent);
    let gap = world.longest_gap();
    println!("hot standby: {sent} frames, longest gap of a camera {gap:?}");
    assert!(gap <= lease() + BEYOND, "{gap:?}");
}

#[test]
fn twelve_comings_and_goings_keep_the_order() {
    let server = Server::start(&[]);
    let world = World::of(&server, 4);
    let mut engines = BTreeMap::new();
    let load = Load::start(&world.config());
    for step in 0..12 {
        let name = format!("engine-{step}");
        engines.insert(step, world.engine(&name));
        load.wait_for_more(120);
        // Three engines run at a time. Every third one is killed, the others end cleanly.
        if step >= 3 {
            let mut oldest = engines.remove(&(step - 3)).unwrap();
            match step % 3 {
                0 => oldest.kill(),
                _ => oldest.terminate(),
            }
        }
    }
    load.wait_for_more(120);
    let sent = load.stop();
    assert_eq!(world.check(), sent);
    println!("twelve engines: {sent} frames, longest gap of a camera {:?}", world.longest_gap());
}

#[test]
fn order_and_exactly_once_survive_a_failover_by_sentinels() {
    let mut deployment = Sentinels::start();
    let port = std::rc::Rc::new(std::cell::Cell::new(deployment.primary_port()));
    let known = std::rc::Rc::clone(&port);
    let connect = move |_: &str| {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", known.get())).ok()?;
        client.get_connection().ok()
    };
    let world = World { url: deployment.url(&[]), shards: 2, connect: Box::new(connect) };
    let _engines = ["one", "two"].map(|name| world.engine(name));
    world.wait_for_balance(&["one", "two"]);
    let load = Load::start(&world.config());
    load.wait_for_more(300);
    let before = port.get();
    deployment.servers[0].kill();
    deployment.wait_for_other_primary(before);
    port.set(deployment.primary_port());
    load.wait_for_more(300);
    world.wait_for_balance(&["one", "two"]);
    let sent = load.stop();
    let survived = world.check();
    println!("failover: {sent} frames confirmed, {survived} entries survived, in order");
}

#[test]
fn order_and_exactly_once_survive_a_killed_node_and_a_killed_engine_in_a_cluster() {
    let mut cluster = Cluster::start();
    let url = cluster.url();
    let victim = cluster.owner("camera_frames:{0}").unwrap();
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).collect();
    // Any live node names the owner.
    let connect = move |key: &str| {
        let slot = i64::from(framepress::internals::redis::slot_of(key));
        ports.iter().find_map(|port| {
            let open = |port: i64| {
                let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).ok()?;
                client.get_connection().ok()
            };
            let mut node = open(i64::from(*port))?;
            let mut command = redis::cmd("CLUSTER");
            let ranges: Vec<Vec<redis::Value>> = command.arg("SLOTS").query(&mut node).ok()?;
            ranges.iter().find_map(|range| match &range[..] {
                [
                    redis::Value::Int(first),
                    redis::Value::Int(last),
                    redis::Value::Array(at),
                    ..,
                ] if (first..=last).contains(&&slot) => match at[1] {
                    redis::Value::Int(port) => open(port),
                    _ => None,
                },
                _ => None,
            })
        })
    };
    let world = World { url, shards: 4, connect: Box::new(connect) };
    let mut engines = ["one", "two"].map(|name| world.engine(name));
    world.wait_for_balance(&["one", "two"]);
    let load = Load::start(&world.config());
    load.wait_for_more(300);
    cluster.nodes[victim].kill();
    wait_until("a replica takes over", || {
        cluster.owner("camera_frames:{0}").is_some_and(|new| new != victim)
    });
    load.wait_for_more(200);
    engines[0].kill();
    world.wait_for_balance(&["two"]);
    load.wait_for_more(200);
    let sent = load.stop();
    let survived = world.check();
    println!("Cluster: {sent} frames confirmed, {survived} entries survived, in order");
}

/// The next holder knows only from the lease what has ended, as results and group are both deleted.
#[test]
fn what_a_frozen_holder_has_ended_is_not_done_again() {
    let server = Server::start(&[]);
    let world = World::of(&server, 1);
    let frozen = world.engine("one");
    let (input, output) = (world.input(0), world.output(0));
    let stop = Stop::default();
    let mut camera = producer(&world.config(), &stop);
    let mut send = |count: usize| {
        for number in 0..count {
            camera.send(&frame(&format!("frame-{number}"), "camera", &picture())).unwrap();
        }
    };
    send(10);
    wait_until("they have ended", || {
        server.ask::<usize>(&["XLEN", &output]) == 10 && is_done(&mut server.connect(), &input)
    });
    // With frames in work, the "ended" mark lies just before the first of them, at no entry's id.
    let _: () = server.ask(&["ACL", "SETUSER", "default", "-xack"]);
    send(5);
    let lease = format!("{input}:lease");
    wait_until("the lease tells of it", || {
        let ended: Option<String> = server.ask(&["HGET", &lease, "ended"]);
        ended.is_some_and(|id| {
            let before: redis::Value = server.ask(&["XRANGE", &input, "-", &id, "COUNT", "99"]);
            let at: redis::Value = server.ask(&["XRANGE", &input, &id, &id]);
            let len = |value: &redis::Value| value.as_sequence().map_or(0, <[_]>::len);
            len(&before) == 10 && len(&at) == 0
        })
    });
    frozen.freeze();
    let _: () = server.ask(&["DEL", &output]);
    let _: () = server.ask(&["XGROUP", "DESTROY", &input, "stream_processor"]);
    let _: () = server.ask(&["ACL", "SETUSER", "default", "+xack"]);
    let next = world.engine("two");
    wait_until("the rest has ended", || {
        server.ask::<usize>(&["XLEN", &output]) >= 5 && is_done(&mut server.connect(), &input)
    });
    assert_eq!(server.ask::<usize>(&["XLEN", &output]), 5, "frames that had ended");
    next.terminate();
}

/// An engine that announces itself but cannot hold its shards, because of its rights or its server,
/// leaves them unclaimed: another engine takes them.
#[test]
fn shards_that_their_engine_does_not_take_are_taken_by_another() {
    let server = Server::start(&[]);
    let world = World::of(&server, 4);
    let ghost = Ghost::show(&server, "ghost~1");
    let engine = world.engine("one");
    let sum = |name: &str| world.holders().get(name).copied().unwrap_or(0);
    wait_until("the engine holds its own shards", || sum("one") == 2 && sum("") == 2);
    let load = Load::start(&world.config());
    wait_until("it takes those that nothing holds", || sum("one") == 4);
    load.wait_for_more(200);
    let sent = load.stop();
    assert_eq!(world.check(), sent);
    drop(ghost);
    wait_until("it keeps them", || sum("one") == 4);
    engine.terminate();
}

/// Frames in a ring wait for an engine on the same machine, identified by its subset of the shards.
#[test]
fn frames_in_a_ring_are_read_on_their_own_machine_only() {
    let server = Server::start(&[]);
    let world = World::of(&server, 2);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let engine = |name: &str, subset: &str, folder: &tempfile::TempDir| {
        let dir = folder.path().display().to_string();
        let own = [("redis_queue.shard_subset", subset.to_owned()), ("ring.dir", dir)];
        let flags: Vec<_> = world.flags().into_iter().chain(own).collect();
        let flags: Vec<(&str, &str)> = flags.iter().map(|(key, it)| (*key, it.as_str())).collect();
        Process::run(&world.url, name, &flags)
    };
    let mut here = engine("here", "[0]", &folders[0]);
    let _elsewhere = engine("elsewhere", "[1]", &folders[1]);
    world.wait_for_balance(&["here", "elsewhere"]);
    let stop = Stop::default();
    let (topology, _) = engine::find_server(&world.config().redis_queue, &stop).unwrap();
    let ring = RingOptions {
        folder: folders[0].path().to_owned(),
        name: "cam".into(),
        slots: 200,
        frame_bytes_max: 64 << 10,
    };
    let options = ProducerOptions {
        topology,
        streams: vec![world.input(0)],
        length_max: 0,
        wait_replicas: 0,
        timeout: Duration::from_secs(10),
        retry: true,
        full: Full::Block,
        ring: Some(RingUse { ring, reuse: Reuse::Freshest }),
    };
    let mut camera = Producer::connect(options, &stop).unwrap();
    let picture = picture();
    let mut send = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            camera.send(&frame(&format!("frame-{number}"), "camera", &picture)).unwrap();
        }
    };
    send(0..50);
    wait_until("they have ended", || is_done(&mut server.connect(), &world.input(0)));
    here.kill();
    send(50..150);
    // Longer than a lease, and than the time after which others take an unclaimed stream.
    std::thread::sleep(5 * lease());
    assert_eq!(world.holders().get("elsewhere"), Some(&1), "{:?}", world.holders());
    assert_eq!(server.ask::<usize>(&["XLEN", &world.output(0)]), 50);
    here = engine("here", "[0]", &folders[0]);
    world.check();
    assert_eq!(server.ask::<usize>(&["XLEN", &world.output(0)]), 150, "none is lost");
    assert_eq!(server.ask::<usize>(&["XLEN", "camera_frames:{0}:dlq"]), 0);
    here.terminate();
}

/// An engine that only announces itself, until dropped.
struct Ghost {
    stop: Stop,
    thread: Option<Running>,
}

impl Ghost {
    fn show(server: &Server, name: &str) -> Ghost {
        let (stop, name) = (Stop::default(), name.to_owned());
        let (until, mut connection) = (stop.clone(), server.connect());
        let mut say = move || {
            let [seconds, micros]: [u64; 2] = redis::cmd("TIME").query(&mut connection).unwrap();
            let now = seconds * 1000 + micros / 1000;
            let mut sign = redis::cmd("ZADD");
            let _: () = sign
                .arg("camera_frames:{0}:engines")
                .arg(now)
                .arg(&name)
                .query(&mut connection)
                .unwrap();
        };
        say();
        let identity = Identity { role: Role::Camera, index: 0, core: None };
        let thread = threads::spawn(identity, &stop, move || {
            while !until.sleep(Duration::from_millis(100)) {
                say();
            }
            Ok(())
        });
        Ghost { stop, thread: Some(thread.unwrap()) }
    }
}

impl Drop for Ghost {
    fn drop(&mut self) {
        self.stop.now();
        let _ = self.thread.take().map(Running::join);
    }
}
