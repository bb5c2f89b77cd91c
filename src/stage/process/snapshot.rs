//! The latest picture of a camera, for the dashboard.
//!
//! A copy is made at most once a second, only if a client has asked within the last minute, and
//! only within a budget shared by all cameras. A frame of a camera that no client watches costs one
//! atomic load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::metrics::clock::unix_millis;

/// Most bytes of pictures kept, over all cameras: about sixty JPEG files of 1080p.
const BYTES_MAX: usize = 32 << 20;

/// How often a picture is renewed.
const PERIOD_MS: u64 = 1_000;

/// How long pictures are taken after the last request.
const INTEREST_MS: u64 = 60_000;

/// Bytes of pictures kept, over all cameras.
pub(super) type KeptBytes = Arc<AtomicUsize>;

/// A JPEG file of a camera's frame.
#[derive(Clone, Debug)]
pub struct Photo {
    /// The file.
    pub jpeg: Bytes,
    /// When it was taken, in milliseconds since the Unix epoch.
    pub taken_ms: u64,
}

/// The place for one camera's picture.
#[derive(Debug)]
pub(super) struct Snapshot {
    asked_ms: AtomicU64,
    taken_ms: AtomicU64,
    photo: Mutex<Option<Photo>>,
    kept: KeptBytes,
}

impl Snapshot {
    pub(super) fn new(kept: &KeptBytes) -> Snapshot {
        Snapshot {
            asked_ms: AtomicU64::new(0),
            taken_ms: AtomicU64::new(0),
            photo: Mutex::new(None),
            kept: Arc::clone(kept),
        }
    }

    /// The picture, if there is one. Pictures are taken from this call on.
    pub(super) fn ask(&self) -> Option<Photo> {
        self.asked_ms.store(unix_millis(), Ordering::Relaxed);
        self.photo.lock().clone()
    }

    /// Whether a frame is to be copied. If several workers ask at once, only one gets true.
    pub(super) fn is_due(&self) -> bool {
        let asked = self.asked_ms.load(Ordering::Relaxed);
        if asked == 0 {
            return false;
        }
        let now = unix_millis();
        if now.saturating_sub(asked) > INTEREST_MS {
            self.asked_ms.store(0, Ordering::Relaxed);
            self.put(None);
            return false;
        }
        let taken = self.taken_ms.load(Ordering::Relaxed);
        // A clock set back must not stop the pictures.
        now.abs_diff(taken) >= PERIOD_MS
            && self
                .taken_ms
                .compare_exchange(taken, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Replaces the last picture, if the budget allows.
    pub(super) fn keep(&self, jpeg: &[u8]) {
        self.put(None);
        let reserved = self.kept.fetch_add(jpeg.len(), Ordering::Relaxed) + jpeg.len();
        if reserved > BYTES_MAX {
            self.kept.fetch_sub(jpeg.len(), Ordering::Relaxed);
            return;
        }
        let taken_ms = self.taken_ms.load(Ordering::Relaxed);
        self.put(Some(Photo { jpeg: Bytes::copy_from_slice(jpeg), taken_ms }));
    }

    /// Drops the picture if no client has asked for a while. For cameras that send no frames.
    pub(super) fn forget_if_unwatched(&self) {
        let asked = self.asked_ms.load(Ordering::Relaxed);
        if asked != 0 && unix_millis().saturating_sub(asked) > INTEREST_MS {
            self.asked_ms.store(0, Ordering::Relaxed);
            self.put(None);
        }
    }

    fn put(&self, photo: Option<Photo>) {
        let last = std::mem::replace(&mut *self.photo.lock(), photo);
        if let Some(last) = last {
            self.kept.fetch_sub(last.jpeg.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.put(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_taken_only_on_request_and_then_once_a_second() {
        let kept = KeptBytes::default();
        let snapshot = Snapshot::new(&kept);
        assert!(!snapshot.is_due());
        assert!(snapshot.ask().is_none());
        let began = unix_millis();
        assert!(snapshot.is_due());
        let again = snapshot.is_due();
        assert!(!again || unix_millis() - began >= PERIOD_MS, "not twice within a second");
        snapshot.keep(&[1, 2, 3]);
        snapshot.keep(&[4, 5]);
        assert_eq!(&*snapshot.ask().unwrap().jpeg, &[4, 5]);
        assert_eq!(kept.load(Ordering::Relaxed), 2);
        drop(snapshot);
        assert_eq!(kept.load(Ordering::Relaxed), 0, "the budget gets back what was kept");
    }

    #[test]
    fn all_pictures_together_stay_within_the_budget() {
        let kept = KeptBytes::default();
        let large = vec![0; BYTES_MAX / 2 + 1];
        let (first, second) = (Snapshot::new(&kept), Snapshot::new(&kept));
        first.keep(&large);
        second.keep(&large);
        assert!(first.ask().is_some() && second.ask().is_none());
        assert_eq!(kept.load(Ordering::Relaxed), large.len());
    }

    #[test]
    fn a_minute_without_a_request_ends_it() {
        let kept = KeptBytes::default();
        let snapshot = Snapshot::new(&kept);
        snapshot.ask();
        snapshot.keep(&[1]);
        snapshot.asked_ms.store(unix_millis() - INTEREST_MS - 1, Ordering::Relaxed);
        assert!(!snapshot.is_due());
        assert_eq!(kept.load(Ordering::Relaxed), 0);

        snapshot.ask();
        snapshot.keep(&[1]);
        snapshot.forget_if_unwatched();
        assert_eq!(kept.load(Ordering::Relaxed), 1, "somebody has asked just now");
        snapshot.asked_ms.store(unix_millis() - INTEREST_MS - 1, Ordering::Relaxed);
        snapshot.forget_if_unwatched();
        assert_eq!(kept.load(Ordering::Relaxed), 0);
    }
}
