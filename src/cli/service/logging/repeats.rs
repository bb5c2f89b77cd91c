//! Repeated faults: the first is logged, the others are counted and reported together.
//!
//! Two events are the same if they come from the same place in the code and concern the same
//! camera. The logged and the reported counts always add up to the total.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::EACH;
use crate::metrics::clock::Tick;

/// How long repetitions are held back before they are reported.
const INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of kinds. Camera names are foreign text; beyond this number all cameras count as
/// one.
const KINDS_MAX: usize = 1_000;

/// Maximum length of a message in its report, in characters.
const MESSAGE_MAX: usize = 300;

/// The kinds seen recently.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    kinds: Mutex<HashMap<EventKind, HeldMessages>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EventKind {
    place: Identifier,
    camera: String,
}

/// The repetitions held back of one kind.
#[derive(Debug)]
struct HeldMessages {
    level: Level,
    message: String,
    since: Tick,
    count: u64,
}

/// Repetitions to report.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) level: Level,
    pub(super) camera: String,
    /// Message of the first event.
    pub(super) message: String,
    pub(super) count: u64,
    pub(super) seconds: u64,
}

impl Repeats {
    /// Whether to log this event; otherwise it is counted.
    fn is_first(&self, kind: EventKind, level: Level, message: impl FnOnce() -> String) -> bool {
        let mut kinds = self.kinds.lock();
        let kind = if kinds.len() < KINDS_MAX || kinds.contains_key(&kind) {
            kind
        } else {
            EventKind { camera: String::new(), ..kind }
        };
        match kinds.entry(kind) {
            Entry::Occupied(mut held) => {
                let held = held.get_mut();
                // If reports are never requested, log one line per interval to show that the fault
                // persists.
                let overdue = held.since.elapsed() >= 2 * INTERVAL;
                if overdue {
                    held.since = Tick::now();
                } else {
                    held.count += 1;
                }
                overdue
            }
            Entry::Vacant(place) => {
                place.insert(HeldMessages {
                    level,
                    message: message(),
                    since: Tick::now(),
                    count: 0,
                });
                true
            }
        }
    }

    /// Takes what has been held back for an interval. Kinds without a repetition in that time are
    /// forgotten, so that their next event is logged again.
    pub(super) fn due(&self) -> Vec<Reported> {
        self.take(INTERVAL)
    }

    /// Takes everything held back.
    pub(super) fn all(&self) -> Vec<Reported> {
        self.take(Duration::ZERO)
    }

    fn take(&self, age: Duration) -> Vec<Reported> {
        let now = Tick::now();
        let mut reports = Vec::new();
        self.kinds.lock().retain(|kind, held| {
            let since = now.since(held.since);
            if since < age {
                return true;
            }
            if held.count == 0 {
                return false;
            }
            reports.push(Reported {
                level: held.level,
                camera: kind.camera.clone(),
                message: held.message.clone(),
                count: std::mem::take(&mut held.count),
                seconds: since.as_secs().max(1),
            });
            held.since = now;
            true
        });
        reports
    }
}

/// Lets the first event of each kind through.
pub(super) struct RepeatGate(pub(super) Arc<Repeats>);

impl<S: Subscriber> Layer<S> for RepeatGate {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let about = event.metadata();
        if *about.level() > Level::WARN || about.target() == EACH {
            return true;
        }
        let mut text = MessageText::default();
        event.record(&mut text);
        let kind = EventKind { place: about.callsite(), camera: text.camera };
        self.0.is_first(kind, *about.level(), || text.message.chars().take(MESSAGE_MAX).collect())
    }
}

/// The fields of an event that identify its kind.
#[derive(Default)]
struct MessageText {
    camera: String,
    message: String,
}

impl Visit for MessageText {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "camera" {
            value.clone_into(&mut self.camera);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct TestSink(Arc<Mutex<Vec<u8>>>);

    impl Write for TestSink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for TestSink {
        type Writer = TestSink;

        fn make_writer(&'a self) -> TestSink {
            self.clone()
        }
    }

    /// The logged lines of `events`, and the repetitions held back.
    fn show(events: impl FnOnce(&Repeats)) -> (Vec<String>, Vec<Reported>) {
        let (sink, repeats) = (TestSink::default(), Arc::new(Repeats::default()));
        let lines = tracing_subscriber::fmt::layer().with_writer(sink.clone()).without_time();
        let subscriber =
            tracing_subscriber::registry().with(RepeatGate(Arc::clone(&repeats))).with(lines);
        tracing::subscriber::with_default(subscriber, || events(&repeats));
        let shown = String::from_utf8(sink.0.lock().clone()).unwrap();
        (shown.lines().map(String::from).collect(), repeats.all())
    }

    fn refuse(camera: &str, number: usize) {
        tracing::warn!(camera, entry = number, "frame refused: {number}");
    }

    #[test]
    fn the_first_of_each_camera_is_shown_and_the_others_are_counted() {
        let (shown, mut held) = show(|_| {
            (0..500).for_each(|number| refuse("north", number));
            (0..3).for_each(|number| refuse("south", number));
        });
        assert_eq!(shown.len(), 2, "{shown:?}");
        held.sort_by_key(|reported| reported.count);
        let counts: Vec<_> = held.iter().map(|one| (&*one.camera, one.count)).collect();
        assert_eq!(counts, [("south", 2), ("north", 499)]);
        assert_eq!(held[1].message, "frame refused: 0");
    }

    #[test]
    fn good_news_and_what_is_each_worth_a_line_are_never_held_back() {
        let (shown, held) = show(|_| {
            for number in 0..20 {
                tracing::info!("{number} frames");
                tracing::warn!(target: EACH, "key {number} needs a restart");
            }
        });
        assert_eq!((shown.len(), held.len()), (40, 0));
    }

    #[test]
    fn names_from_outside_cannot_grow_the_table() {
        let many = KINDS_MAX + 500;
        let (shown, held) = show(|_| (0..many).for_each(|number| refuse(&number.to_string(), 0)));
        let counted: u64 = held.iter().map(|reported| reported.count).sum();
        assert_eq!(shown.len(), KINDS_MAX + 1);
        assert_eq!(shown.len() as u64 + counted, many as u64);
    }

    #[test]
    fn a_kind_is_shown_again_once_it_has_been_quiet() {
        let (shown, _) = show(|repeats| {
            (0..3).for_each(|number| refuse("north", number));
            assert_eq!(repeats.due(), [], "too early");
            assert_eq!(repeats.all().len(), 1);
            assert_eq!(repeats.all().len(), 0, "quiet since then: forgotten");
            refuse("north", 3);
        });
        assert_eq!(shown.len(), 2, "{shown:?}");
    }
}
