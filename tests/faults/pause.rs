//! A process that is stopped for longer than the claim time while it holds frames: another takes
//! them over, and the first, when it wakes up, duplicates nothing.

use std::time::Duration;

use framepress::internals::engine::Hooks;
use framepress::internals::image::Format;
use framepress::internals::metrics::Counter;
use rustix::process::Signal;

use crate::support::{LONG, ProgramUnderTest, RunningEngine, Server, picture, wait_until};

const FRAMES: usize = 60;

/// Results take a while, so that the sleeper is likely to hold frames at any moment.
const LABORIOUS: [(&str, &str); 3] = [
    ("redis_queue.compression_format", "webp"),
    ("redis_queue.webp_method", "6"),
    ("redis_queue.batch_size", "10"),
];

#[derive(Clone, Copy, PartialEq)]
enum Wakes {
    /// While the other one is working on the frames it has taken over.
    Meanwhile,
    /// When all frames are done.
    Afterwards,
}

fn sleeper_doubles_nothing(wakes: Wakes) {
    let mut server = Server::start();
    let image = picture(Format::Jpeg, 320, 240);
    let mut flags = LABORIOUS.to_vec();
    flags.push(("redis_queue.consumer_name", "sleeper"));
    let mut sleeper = ProgramUnderTest::run(&server.url(), &flags);
    // Stop it before looking, as the state seen would be out of date by the time it stops.
    wait_until("the sleeper sleeps on frames, and has results", LONG, || {
        sleeper.signal(Signal::CONT);
        if server.output_length() + FRAMES / 2 > server.added() {
            server.add_pictures(FRAMES, &image);
        }
        std::thread::sleep(Duration::from_millis(50));
        sleeper.signal(Signal::STOP);
        server.output_length() >= 3 && server.pending_of("sleeper-0") >= 5
    });
    let held = server.pending_of("sleeper-0");

    let other = RunningEngine::start(&server.url(), &LABORIOUS, Hooks::default());
    let claimed = || other.view.metrics.get(Counter::Claimed) as usize;
    match wakes {
        Wakes::Meanwhile => {
            wait_until("frames are taken over", LONG, || claimed() > 0);
        }
        Wakes::Afterwards => {
            server.wait_until_done(LONG);
            wait_until("what was taken over is counted", LONG, || claimed() > 0);
        }
    }
    sleeper.signal(Signal::CONT);
    server.wait_until_done(LONG);
    // Time for the woken process to finish what it began.
    std::thread::sleep(Duration::from_millis(500));
    sleeper.signal(Signal::TERM);
    sleeper.ends_well(LONG);
    let account = other.stop();
    eprintln!("held {held}; the other one: {account:?}");
    eprintln!("the sleeper: {}", sleeper.said().lines().last().unwrap_or_default());
    server.assert_every_frame_once();
}

#[test]
fn an_engine_that_wakes_up_when_all_is_done_doubles_nothing() {
    sleeper_doubles_nothing(Wakes::Afterwards);
}

#[test]
fn an_engine_that_wakes_up_in_the_middle_doubles_nothing() {
    sleeper_doubles_nothing(Wakes::Meanwhile);
}
