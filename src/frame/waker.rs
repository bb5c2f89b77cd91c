//! A lane whose receiver can wait for a socket at the same time. The sender wakes it through an
//! eventfd, but only while it waits, so a busy receiver costs the sender nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rustix::event::{EventfdFlags, eventfd};

use super::lane;
use crate::base::{Fault, Stop};

/// Wakes the receiver of a lane.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
    is_waiting: AtomicBool,
}

impl Waker {
    /// # Errors
    /// [`Fault::Io`] if the system has no descriptor left.
    fn new() -> Result<Waker, Fault> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = eventfd(0, flags).map_err(|errno| Fault::io("a lane", errno.into()))?;
        Ok(Waker { event, is_waiting: AtomicBool::new(false) })
    }

    /// Wakes the receiver, if it waits.
    fn wake(&self) {
        // Pairs with the fence in `begins_to_wait`: either the receiver sees the item, or the
        // sender sees that the receiver waits.
        fence(Ordering::SeqCst);
        if self.is_waiting.load(Ordering::Relaxed) && self.is_waiting.swap(false, Ordering::AcqRel)
        {
            // A write fails only if the counter is full, and then the descriptor is readable
            // already.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    fn begins_to_wait(&self) {
        self.is_waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn ends_to_wait(&self) {
        if !self.is_waiting.swap(false, Ordering::AcqRel) {
            // The receiver was woken. Clear the event, so that it does not end the next wait.
            let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
        }
    }
}

/// The sending end.
#[derive(Debug)]
pub struct WakingSender<T> {
    lane: Sender<T>,
    waker: Arc<Waker>,
}

impl<T> WakingSender<T> {
    /// Sends at once; `false` if there is no room or no receiver.
    pub fn try_send(&self, item: T) -> bool {
        let is_sent = self.lane.try_send(item).is_ok();
        if is_sent {
            self.waker.wake();
        }
        is_sent
    }
}

impl<T> Drop for WakingSender<T> {
    fn drop(&mut self) {
        // The receiver may be waiting for the lane to close.
        self.waker.wake();
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct WakingReceiver<T> {
    lane: Receiver<T>,
    waker: Arc<Waker>,
}

/// The state of a lane.
#[derive(Debug)]
pub enum Received<T> {
    /// The next item.
    Item(T),
    /// Nothing yet.
    Empty,
    /// No item, and none will come.
    Closed,
}

impl<T> WakingReceiver<T> {
    /// Takes the next item, if there is one.
    pub fn next(&self) -> Received<T> {
        match self.lane.try_recv() {
            Ok(item) => Received::Item(item),
            Err(TryRecvError::Empty) => Received::Empty,
            Err(TryRecvError::Disconnected) => Received::Closed,
        }
    }

    /// Waits for an item; see [`lane::recv`].
    pub fn recv(&self, stop: &Stop) -> Option<T> {
        lane::recv(&self.lane, stop)
    }

    /// Calls `wait` with a descriptor that becomes readable when an item is sent. If an item is
    /// present already, `wait` is not called.
    pub fn beside<R>(&self, wait: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        self.waker.begins_to_wait();
        let end = self.lane.is_empty().then(|| wait(self.waker.event.as_fd()));
        self.waker.ends_to_wait();
        end
    }
}

/// A lane with this capacity.
///
/// # Errors
/// [`Fault::Io`] if the system has no descriptor left.
pub fn waking<T>(capacity: usize) -> Result<(WakingSender<T>, WakingReceiver<T>), Fault> {
    let (sender, receiver) = bounded(capacity);
    let waker = Arc::new(Waker::new()?);
    let of_sender = Arc::clone(&waker);
    let receiver = WakingReceiver { lane: receiver, waker };
    Ok((WakingSender { lane: sender, waker: of_sender }, receiver))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    /// Whether the descriptor becomes readable before the limit.
    fn is_woken(event: BorrowedFd<'_>, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).unwrap();
        poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&limit)).unwrap() > 0
    }

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(10);

    #[test]
    fn an_item_ends_the_wait_and_only_one() {
        let (sender, receiver) = waking(2).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !sender.waker.is_waiting.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                assert!(sender.try_send(7));
            });
            // If the item is sent before the wait begins, `beside` returns `None`.
            assert_ne!(receiver.beside(|event| is_woken(event, LONG)), Some(false));
        });
        assert!(matches!(receiver.next(), Received::Item(7)));
        // A sender may wake the receiver when it has just stopped waiting.
        receiver.waker.ends_to_wait();
        assert_eq!(receiver.beside(|event| is_woken(event, SHORT)), Some(false));
        assert!(matches!(receiver.next(), Received::Empty));
        assert!(sender.try_send(8));
        assert_eq!(receiver.beside(|_| ()), None, "it is there already");
    }

    #[test]
    fn the_end_of_the_last_sender_ends_the_wait() {
        let (sender, receiver) = waking::<u8>(1).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(SHORT);
                drop(sender);
            });
            receiver.beside(|event| is_woken(event, LONG));
        });
        // The sender wakes the receiver before its lane is closed.
        while matches!(receiver.next(), Received::Empty) {
            std::thread::yield_now();
        }
        assert!(matches!(receiver.next(), Received::Closed));
    }

    #[test]
    fn no_item_is_slept_over() {
        let (sender, receiver) = waking(64).unwrap();
        const ITEMS: u32 = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for item in 0..ITEMS {
                    while !sender.try_send(item) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < ITEMS {
                match receiver.next() {
                    Received::Item(item) => {
                        assert_eq!(item, expected);
                        expected += 1;
                    }
                    Received::Empty => {
                        let woken = receiver.beside(|event| is_woken(event, LONG));
                        assert_ne!(woken, Some(false), "slept over item {expected}");
                    }
                    Received::Closed => panic!("closed"),
                }
            }
        });
    }
}
