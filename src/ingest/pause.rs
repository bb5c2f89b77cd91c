//! Pauses before a camera is opened again, and checks during a pause whether it is reachable.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use twox_hash::XxHash3_64;

use crate::base::Stop;
use crate::metrics::clock::{Tick, unix_nanos};

/// A camera that has worked for this long starts again with the first pause.
const WORKED: Duration = Duration::from_secs(10);
/// How often to check whether an unreachable camera is back, by a TCP connection without login.
const LOOK_EVERY: Duration = Duration::from_millis(1000);
/// Longest wait for that connection.
const LOOK_LIMIT: Duration = Duration::from_millis(500);

/// The pauses of one camera.
#[derive(Debug)]
pub(super) struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
    seed: u64,
}

impl Pauses {
    pub(super) fn new((first, longest): (u64, u64), id: &str) -> Pauses {
        let (first, longest) = (Duration::from_millis(first), Duration::from_millis(longest));
        let seed = XxHash3_64::oneshot(id.as_bytes()) ^ unix_nanos() as u64;
        Pauses { first, longest, next: first, seed }
    }

    /// A number from 0 to 1.
    fn random(&mut self) -> f64 {
        self.seed = XxHash3_64::oneshot(&self.seed.to_le_bytes());
        (self.seed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Notes how long the camera delivered pictures before it was lost.
    pub(super) fn worked_for(&mut self, time: Duration) {
        if time >= WORKED {
            self.next = self.first;
        }
    }

    /// The next pause, at random between half and all of its bound. With `longest` the bound is the
    /// longest one, so that repeated logins do not lock an account.
    pub(super) fn next(&mut self, longest: bool) -> Duration {
        let bound = if longest { self.longest } else { self.next };
        self.next = (self.next * 2).min(self.longest);
        bound.mul_f64(0.5 + self.random() / 2.0)
    }

    /// Waits for `pause`. Meanwhile checks whether the camera at `authority` is reachable, so that
    /// its return ends even a long pause. Returns whether the camera is back.
    pub(super) fn wait(
        &mut self,
        pause: Duration,
        authority: Option<(String, u16)>,
        stop: &Stop,
    ) -> bool {
        let until = Tick::now().after(pause);
        let Some(authority) = authority else {
            stop.sleep_until(until);
            return false;
        };
        loop {
            let part = LOOK_EVERY.mul_f64(0.75 + self.random() / 2.0);
            if stop.sleep_until(until.min(Tick::now().after(part))) || until.remaining().is_zero() {
                return false;
            }
            let addresses = authority.to_socket_addrs().into_iter().flatten().take(2);
            if addresses.into_iter().any(|to| TcpStream::connect_timeout(&to, LOOK_LIMIT).is_ok()) {
                self.next = self.first;
                return true;
            }
        }
    }
}

/// Waiting that continues after a spurious wake-up.
trait SleepUntil {
    fn sleep_until(&self, until: Tick) -> bool;
}

impl SleepUntil for Stop {
    fn sleep_until(&self, until: Tick) -> bool {
        loop {
            let left = until.remaining();
            if left.is_zero() {
                return self.is_draining();
            }
            if self.sleep(left) {
                return true;
            }
        }
    }
}

/// CPU time used by a process, in seconds.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(|field| field.parse::<u64>().ok());
    let ticks = times.next()?? + times.next()??;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again_after_work() {
        let mut pauses = Pauses::new((100, 1000), "cam");
        for bound in [100, 200, 400, 800, 1000, 1000] {
            let pause = pauses.next(false).as_millis();
            assert!((bound / 2..=bound).contains(&pause), "{pause} of {bound}");
        }
        pauses.worked_for(Duration::from_secs(9));
        assert!(pauses.next(false).as_millis() >= 500);
        pauses.worked_for(Duration::from_secs(10));
        assert!(pauses.next(true).as_millis() >= 500, "a refused login waits the longest");
    }

    #[test]
    fn a_camera_that_is_back_ends_the_pause() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
        let (mut pauses, began) = (Pauses::new((100, 60_000), "cam"), Tick::now());
        assert!(pauses.wait(Duration::from_secs(60), Some(authority), &Stop::default()));
        assert!(began.elapsed() < Duration::from_secs(3));
    }
}
