//! The newest entries of one or several streams, shown oldest first.
//!
//! The streams are read backwards to find the entries. As long as the entries found are small, they
//! are held. Beyond that only the ranges are kept, and the entries are read again in the order of
//! display. So the memory needed does not depend on the number of entries requested.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{Fault, Stop};
use crate::cli::failure::Failure;
use crate::frame::EntryId;
use crate::redis::{Control, Pages, Record, bytes_of};

/// Maximum total bytes of held entries.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Approximate overhead of a held entry, in bytes.
const ENTRY_BYTES: usize = 500;

/// Shortest block time: the entries to be read exist already or have been trimmed.
const NO_WAIT: Duration = Duration::from_millis(1);

/// The newest entries.
pub(super) struct Newest {
    spans: Vec<EntrySpan>,
    count: usize,
    /// All of them, oldest first; `None` if they are too large.
    held: Option<VecDeque<Record>>,
}

/// The newest entries of one stream.
struct EntrySpan {
    stream: String,
    /// The oldest one to show.
    first: Option<EntryId>,
    /// The last entry of the stream, whether shown or not.
    last: EntryId,
}

impl Newest {
    /// Finds the newest `count` entries of all streams; fewer if `stop` is raised.
    pub(super) fn find(
        control: &mut Control,
        streams: &[String],
        count: usize,
        stop: &Stop,
    ) -> Result<Newest, Fault> {
        let mut pages: Vec<Pages> = streams.iter().map(|stream| Pages::back(stream)).collect();
        let mut spans = Vec::with_capacity(streams.len());
        for (stream, pages) in streams.iter().zip(&mut pages) {
            let last = pages.peek(control, count, NO_WAIT)?.unwrap_or_default();
            spans.push(EntrySpan { stream: stream.clone(), first: None, last });
        }
        let mut newest = Newest { spans, count: 0, held: Some(VecDeque::new()) };
        let mut bytes = 0;
        while newest.count < count && !stop.is_draining() {
            let mut heads = Vec::with_capacity(pages.len());
            for (place, pages) in pages.iter_mut().enumerate() {
                heads.extend(
                    pages.peek(control, count - newest.count, NO_WAIT)?.map(|id| (id, place)),
                );
            }
            let Some((id, place)) = heads.into_iter().max() else { break };
            newest.count += 1;
            newest.spans[place].first = Some(id);
            let Some(record) = pages[place].take() else { break };
            bytes += bytes_of(&record) + ENTRY_BYTES;
            if bytes > HELD_BYTES_MAX {
                newest.held = None;
            }
            if let Some(held) = &mut newest.held {
                held.push_front(record);
            }
        }
        Ok(newest)
    }

    /// Whether there are no entries.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The last entry of each stream.
    pub(super) fn ends(&self) -> Vec<EntryId> {
        self.spans.iter().map(|span| span.last).collect()
    }

    /// Shows them, oldest first, until `stop` is raised.
    pub(super) fn each(
        self,
        control: &mut Control,
        stop: &Stop,
        mut show: impl FnMut(&Record) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Some(held) = self.held {
            let mut held = held.iter().take_while(|_| !stop.is_draining());
            return held.try_for_each(show);
        }
        let of = |span: &EntrySpan| {
            Some((Pages::forward(&span.stream, span.first?.before()), span.last))
        };
        // A stream is dropped once it has been shown to its end, which saves round trips.
        let mut spans: Vec<Option<(Pages, EntryId)>> = self.spans.iter().map(of).collect();
        while !stop.is_draining() {
            let mut heads = Vec::with_capacity(spans.len());
            for (place, span) in spans.iter_mut().enumerate() {
                let Some((pages, last)) = span else { continue };
                match pages.peek(control, self.count, NO_WAIT)?.filter(|id| *id <= *last) {
                    Some(id) => heads.push((id, place)),
                    // The remaining entries have been trimmed.
                    None => *span = None,
                }
            }
            let Some((id, place)) = heads.into_iter().min() else { break };
            let Some((pages, last)) = &mut spans[place] else { break };
            let Some(record) = pages.take() else { break };
            if id == *last {
                spans[place] = None;
            }
            show(&record)?;
        }
        Ok(())
    }
}
