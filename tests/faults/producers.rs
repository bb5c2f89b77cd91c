//! Producers far from their server: several frames in flight, under all kinds of faults.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::internals::base::{Fault, Stop};
use framepress::internals::camera::{Full, Outbound, Producer, ProducerOptions, Ticket};
use framepress::internals::image::{Format, InputImage};
use framepress::internals::metrics::clock::Tick;
use framepress::internals::redis::{Address, Topology};
use framepress_proxy::{Link, Proxy};
use redis::cmd;
use redis::streams::StreamRangeReply;

use crate::support::{INPUT, LONG, Server, wait_until};

/// Half of the delay applies in each direction.
const TRIP: Duration = Duration::from_millis(100);
/// Cameras that send frames alternately.
const CAMERAS: usize = 3;

/// A server, and the proxy in front of it.
struct Scene {
    // Drop order: the proxy before its server.
    proxy: Proxy,
    server: Server,
    stop: Stop,
}

impl Scene {
    fn at(trip: Duration) -> Scene {
        let server = Server::start();
        let proxy = Proxy::before_port(server.port(), Link::with_round_trip(trip)).unwrap();
        Scene { proxy, server, stop: Stop::default() }
    }

    fn producer(&self, change: impl FnOnce(&mut ProducerOptions)) -> Producer {
        let mut options = ProducerOptions {
            topology: Topology::from(Address::tcp("127.0.0.1", self.proxy.port())),
            streams: vec![INPUT.to_owned()],
            length_max: 0,
            wait_replicas: 0,
            timeout: Duration::from_secs(5),
            retry: true,
            full: Full::Block,
            ring: None,
        };
        change(&mut options);
        Producer::connect(options, &self.stop).unwrap()
    }

    fn config(&self, name: &str, value: &str) {
        let _: () = self.server.ask(cmd("CONFIG").arg("SET").arg(name).arg(value));
    }

    /// Numbers of the frames in the stream, in its order.
    fn numbers(&self) -> Vec<usize> {
        let reply: StreamRangeReply = self.server.ask(cmd("XRANGE").arg(INPUT).arg("-").arg("+"));
        let number = |id: String| id.trim_start_matches("frame-").parse().unwrap();
        reply.ids.iter().map(|entry| number(entry.get("frame_id").unwrap())).collect()
    }
}

/// Enqueues frame `number` of the three cameras, with a picture of `bytes` bytes.
fn enqueue(producer: &mut Producer, number: usize, bytes: usize) -> Result<Option<Ticket>, Fault> {
    let pixels = vec![9; bytes];
    producer.enqueue(&Outbound {
        frame_id: &format!("frame-{number}"),
        camera_id: &format!("camera-{}", number % CAMERAS),
        timestamp: 1.5,
        picture: InputImage {
            format: Format::Raw,
            width: u32::try_from(bytes / 3).unwrap(),
            height: 1,
            channels: 3,
            layout: Default::default(),
            bytes: &pixels,
        },
        quality: 0,
    })
}

/// The first occurrence of each frame, in the order of the stream.
fn without_repetitions(numbers: &[usize]) -> Vec<usize> {
    let mut first: Vec<usize> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    first.extend(numbers.iter().filter(|number| seen.insert(**number)));
    first
}

/// Asserts that the frame numbers of each camera ascend.
#[track_caller]
fn assert_in_order(numbers: &[usize]) {
    for camera in 0..CAMERAS {
        let own: Vec<usize> =
            numbers.iter().copied().filter(|number| number % CAMERAS == camera).collect();
        assert!(own.is_sorted_by(|a, b| a < b), "camera {camera}: {own:?}");
    }
}

#[test]
fn a_round_trip_does_not_limit_the_rate() {
    let scene = Scene::at(TRIP);
    let mut producer = scene.producer(|_| {});
    let frames = 400;
    let began = Tick::now();
    let mut tickets = Vec::new();
    for number in 0..frames {
        tickets.extend(enqueue(&mut producer, number, 3_000).unwrap());
    }
    assert_eq!(producer.flush(LONG), 0);
    let took = began.elapsed();
    // One frame per round trip would take 40 s.
    assert!(took < Duration::from_secs(4), "{took:?}");
    println!("{frames} frames at {TRIP:?} in {took:?}");
    let replies: Vec<_> = producer.replies().collect();
    assert!(replies.iter().map(|(ticket, _)| *ticket).eq(tickets), "each has its reply, in order");
    let ids: Vec<_> = replies.into_iter().map(|(_, reply)| reply.unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "and its own entry");
    assert_eq!(scene.numbers(), (0..frames).collect::<Vec<_>>());
    assert_eq!(producer.counts().sendings.confirmed, frames as u64);
}

#[test]
fn send_waits_for_its_own_frame_behind_those_in_transit() {
    let scene = Scene::at(TRIP);
    let mut producer = scene.producer(|_| {});
    for number in 0..5 {
        enqueue(&mut producer, number, 300).unwrap();
    }
    let pixels = [9; 300];
    let picture = InputImage {
        format: Format::Raw,
        width: 100,
        height: 1,
        channels: 3,
        layout: Default::default(),
        bytes: &pixels,
    };
    let sent = producer
        .send(&Outbound {
            frame_id: "frame-5",
            camera_id: "camera-2",
            timestamp: 1.5,
            picture,
            quality: 0,
        })
        .unwrap();
    let others: Vec<_> = producer.replies().map(|(_, reply)| reply.unwrap()).collect();
    assert!(others.len() == 5 && others.iter().all(|id| *id < sent), "{others:?}, {sent}");
}

/// Sends at least 100 frames, and until many are in flight. A slow machine needs more of them:
/// right after a reply few are in flight.
#[track_caller]
fn fill_window(producer: &mut Producer, next: &mut usize) {
    let (first, began) = (*next, Tick::now());
    while *next < first + 100 || producer.in_hand() <= 10 {
        assert!(began.elapsed() < LONG, "the window is open: {}", producer.in_hand());
        enqueue(producer, *next, 3_000).unwrap();
        *next += 1;
    }
}

#[test]
fn a_cut_with_a_full_window_loses_nothing() {
    let scene = Scene::at(TRIP);
    let mut producer = scene.producer(|_| {});
    let mut frames = 0;
    for _ in 0..4 {
        fill_window(&mut producer, &mut frames);
        scene.proxy.cut();
    }
    fill_window(&mut producer, &mut frames);
    assert_eq!(producer.flush(LONG), 0);
    let sendings = producer.counts().sendings;
    assert_eq!((sendings.confirmed, sendings.failed), (frames as u64, 0), "{sendings:?}");
    let numbers = scene.numbers();
    println!("{} entries of {frames} frames, {sendings:?}", numbers.len());
    assert_eq!(without_repetitions(&numbers), (0..frames).collect::<Vec<_>>());
    assert!(sendings.sent_again >= 4, "{sendings:?}");
    assert!(numbers.len() <= frames + usize::try_from(sendings.sent_again).unwrap());
}

#[test]
fn a_connection_that_breaks_inside_a_frame_loses_nothing() {
    let scene = Scene::at(Duration::from_millis(10));
    let mut producer = scene.producer(|_| {});
    let frames = 60;
    for number in 0..frames {
        if number % 20 == 10 {
            scene.proxy.reset_inside(framepress_proxy::Direction::Request, 40_000);
        }
        enqueue(&mut producer, number, 300_000).unwrap();
    }
    assert_eq!(producer.flush(LONG), 0);
    assert!(scene.proxy.counts().resets >= 3);
    assert_eq!(without_repetitions(&scene.numbers()), (0..frames).collect::<Vec<_>>());
}

#[test]
fn without_memory_frames_wait_and_keep_their_order() {
    let scene = Scene::at(TRIP);
    let mut producer = scene.producer(|_| {});
    let mut frames = 0;
    fill_window(&mut producer, &mut frames);
    scene.config("maxmemory", "1");
    enqueue(&mut producer, frames, 3_000).unwrap();
    frames += 1;
    // Longer than a round trip: no frame after the first refused one is added.
    std::thread::sleep(TRIP * 2);
    producer.settle().unwrap();
    std::thread::sleep(TRIP * 2);
    scene.config("maxmemory", "0");
    fill_window(&mut producer, &mut frames);
    assert_eq!(producer.flush(LONG), 0);
    let sendings = producer.counts().sendings;
    println!("{sendings:?}");
    assert_eq!((sendings.confirmed, sendings.failed), (frames as u64, 0), "{sendings:?}");
    assert!(sendings.sent_again > 0, "{sendings:?}");
    assert_eq!(scene.numbers(), (0..frames).collect::<Vec<_>>(), "nothing twice");
}

#[test]
fn memory_that_comes_and_goes_does_not_reorder_the_frames_of_a_camera() {
    let scene = Scene::at(Duration::from_millis(30));
    let mut producer = scene.producer(|_| {});
    let frames = 100;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = scene.server.connect();
            while !over.load(Ordering::Relaxed) {
                for limit in ["1", "0"] {
                    let mut command = cmd("CONFIG");
                    command.arg("SET").arg("maxmemory").arg(limit);
                    let _: () = command.query(&mut connection).unwrap();
                    std::thread::sleep(Duration::from_millis(7));
                }
            }
        });
        for number in 0..frames {
            enqueue(&mut producer, number, 3_000).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(producer.flush(LONG), 0);
    let sendings = producer.counts().sendings;
    println!("{sendings:?}");
    let numbers = scene.numbers();
    assert_in_order(&numbers);
    assert_eq!(numbers.len() as u64, sendings.confirmed, "nothing twice");
    assert_eq!(sendings.confirmed + sendings.failed, frames as u64);
    assert_eq!(sendings.failed, sendings.superseded, "{sendings:?}");
    assert!(sendings.superseded > 0, "the example is one: {sendings:?}");
    let refused = producer.replies().filter(|(_, reply)| reply.is_err()).count() as u64;
    assert_eq!(refused, sendings.superseded, "and each of them says so");
}

#[test]
fn a_full_window_drops_and_counts_if_it_is_told_to() {
    let scene = Scene::at(Duration::from_millis(20));
    let mut producer = scene.producer(|options| options.full = Full::Drop);
    for number in 0..50 {
        enqueue(&mut producer, number, 3_000).unwrap();
        std::thread::sleep(Duration::from_millis(4));
    }
    assert_eq!(producer.counts().dropped, 0, "it follows the rate");
    scene.proxy.stall(true);
    let began = Tick::now();
    let dropped = (50..250)
        .filter(|number| enqueue(&mut producer, *number, 3_000).unwrap().is_none())
        .count();
    assert!(began.elapsed() < Duration::from_secs(1), "nothing waits");
    assert!((1..200).contains(&dropped), "{dropped}");
    scene.proxy.stall(false);
    assert_eq!(producer.flush(LONG), 0);
    let counts = producer.counts();
    assert_eq!((counts.handed_over, counts.dropped), (250, dropped as u64));
    assert_eq!(counts.sendings.confirmed + counts.dropped, 250);
    let numbers = scene.numbers();
    assert_eq!(numbers.len() as u64, counts.sendings.confirmed);
    assert_in_order(&numbers);
}

#[test]
fn a_frame_that_is_half_sent_delays_no_other() {
    let scene = Scene::at(Duration::from_millis(10));
    let mut producer = scene.producer(|options| {
        options.full = Full::Drop;
        options.timeout = Duration::from_secs(30);
    });
    let bytes = 9_000_000;
    enqueue(&mut producer, 0, bytes).unwrap();
    assert_eq!(producer.flush(LONG), 0);
    scene.proxy.stall(true);
    let mut longest = Duration::ZERO;
    for number in 1..12 {
        let began = Tick::now();
        enqueue(&mut producer, number, bytes).unwrap();
        longest = longest.max(began.elapsed());
    }
    // The socket buffers hold less than two of these frames.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(producer.counts().dropped > 0, "{:?}", producer.counts());
    let began = Tick::now();
    assert!(producer.flush(Duration::from_millis(200)) > 0);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    scene.proxy.stall(false);
    assert_eq!(producer.flush(LONG), 0);
    let counts = producer.counts();
    assert_eq!(counts.sendings.confirmed + counts.dropped, 12, "{counts:?}");
    assert_eq!(counts.sendings.sent_again, 0, "{counts:?}");
    assert_in_order(&scene.numbers());
}

#[test]
fn without_retry_each_frame_has_its_own_end() {
    let scene = Scene::at(TRIP);
    let mut producer = scene.producer(|options| options.retry = false);
    for number in 0..100 {
        enqueue(&mut producer, number, 3_000).unwrap();
    }
    scene.proxy.cut();
    assert_eq!(producer.flush(LONG), 0);
    let lost = producer.replies().filter(|(_, reply)| reply.is_err()).count();
    let sendings = producer.counts().sendings;
    assert_eq!(sendings.confirmed + sendings.failed, 100);
    assert!(lost > 0 && lost as u64 == sendings.failed && sendings.sent_again == 0);

    scene.config("maxmemory", "1");
    for number in 100..105 {
        enqueue(&mut producer, number, 3_000).unwrap();
    }
    assert_eq!(producer.flush(LONG), 0);
    let codes: Vec<_> = producer
        .replies()
        .map(|(_, reply)| reply.unwrap_err().redis_code().map(str::to_owned))
        .collect();
    assert_eq!(codes, vec![Some("OOM".to_owned()); 5]);
}

#[test]
fn a_stop_flushes_within_its_limit_and_counts_the_rest() {
    let scene = Scene::at(TRIP);
    let mut producer = scene.producer(|_| {});
    for number in 0..50 {
        enqueue(&mut producer, number, 3_000).unwrap();
    }
    scene.stop.drain();
    assert_eq!(producer.flush(LONG), 0, "the stop ends nothing that is under way");
    let other = Scene::at(TRIP);
    let mut producer = other.producer(|_| {});
    other.proxy.stall(true);
    for number in 0..5 {
        enqueue(&mut producer, number, 3_000).unwrap();
    }
    other.stop.drain();
    let began = Tick::now();
    assert_eq!(producer.flush(Duration::from_millis(300)), 5);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    other.proxy.stall(false);
    assert_eq!(producer.flush(LONG), 0, "they were still in hand");
}

#[test]
fn a_server_that_is_silent_is_left_in_time_and_everything_is_sent_again() {
    let scene = Scene::at(Duration::from_millis(10));
    let mut producer = scene.producer(|options| options.timeout = Duration::from_millis(500));
    for number in 0..20 {
        enqueue(&mut producer, number, 3_000).unwrap();
    }
    assert_eq!(producer.flush(LONG), 0);
    scene.proxy.stall(true);
    // Every window has room for two frames, so neither call waits for the server.
    for number in 20..22 {
        enqueue(&mut producer, number, 3_000).unwrap();
    }
    let began = Tick::now();
    wait_until("the connection is given up", LONG, || {
        producer.settle().unwrap();
        began.elapsed() > Duration::from_millis(800)
    });
    scene.proxy.stall(false);
    assert_eq!(producer.flush(LONG), 0);
    assert!(producer.counts().sendings.sent_again >= 2, "{:?}", producer.counts());
    assert_eq!(without_repetitions(&scene.numbers()), (0..22).collect::<Vec<_>>());
}

#[test]
fn a_round_trip_that_becomes_longer_and_shorter_is_followed() {
    let scene = Scene::at(Duration::from_millis(2));
    let mut producer = scene.producer(|_| {});
    let mut number = 0;
    let mut rate = |trip: u64, seconds: u64| {
        scene.proxy.change(|link| link.delay = Duration::from_millis(trip) / 2);
        let began = Tick::now();
        let first = number;
        while began.elapsed() < Duration::from_secs(seconds) {
            enqueue(&mut producer, number, 3_000).unwrap();
            number += 1;
        }
        (number - first) as u64 / seconds
    };
    let (near, far, again) = (rate(2, 1), rate(60, 12), rate(2, 1));
    println!("{near} frames/s at 2 ms, then {far} at 60 ms, then {again} at 2 ms");
    // One frame per round trip would give 500 and 16.
    assert!(near > 1_000 && far > 160 && again > 1_000, "{near}, {far}, {again}");
}
