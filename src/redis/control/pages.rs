//! Reads a stream in pages, for callers that look at many entries. Entries hold whole frames, so
//! the number of entries per page follows from a limit on bytes and the largest entry of the
//! previous page.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Control, Record};
use crate::base::Fault;
use crate::frame::EntryId;

/// Maximum bytes of a page, estimated from the previous page. At least one entry is read.
const PAGE_BYTES: usize = 8 << 20;

/// Maximum entries of a page. Later entries may be larger than the estimate, and the server also
/// holds the whole answer. With the largest frames allowed this is 1 GiB, once, before the page
/// shrinks.
const PAGE_ENTRIES_MAX: usize = 16;

/// A page has at most this many times the entries of the previous page. The first has one.
const GROWTH: usize = 4;

/// Reads a stream entry by entry, backwards from its end or forwards from an entry.
#[derive(Debug)]
pub struct Pages {
    stream: String,
    course: PageCourse,
    page: VecDeque<Record>,
    count: usize,
    /// The beginning of the stream has been reached.
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
enum PageCourse {
    /// Backwards from this entry (exclusive), or from the end of the stream.
    Back(Option<EntryId>),
    /// Forwards from this entry (exclusive).
    Forward(EntryId),
}

impl Pages {
    /// Reads from the end of the stream to its beginning.
    pub fn back(stream: &str) -> Pages {
        Pages::new(stream, PageCourse::Back(None))
    }

    /// Reads the entries after `after`.
    pub fn forward(stream: &str, after: EntryId) -> Pages {
        Pages::new(stream, PageCourse::Forward(after))
    }

    fn new(stream: &str, course: PageCourse) -> Pages {
        Pages { stream: stream.to_owned(), course, page: VecDeque::new(), count: 1, ended: false }
    }

    /// The id of the next entry, if there is one. `most` is the number of entries the caller still
    /// wants at most. When reading forwards, `block` is the maximum wait for an entry.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn peek(
        &mut self,
        control: &mut Control,
        most: usize,
        block: Duration,
    ) -> Result<Option<EntryId>, Fault> {
        if self.page.is_empty() && !self.ended {
            let count = self.count.min(most).max(1);
            let found = match &mut self.course {
                PageCourse::Back(before) => {
                    let found = control.before(&self.stream, *before, count)?;
                    *before = found.last().map(|(id, _)| *id).or(*before);
                    self.ended = found.is_empty();
                    found
                }
                PageCourse::Forward(after) => {
                    let found = control.after(&self.stream, *after, count, block)?;
                    *after = found.last().map_or(*after, |(id, _)| *id);
                    found
                }
            };
            if let Some(largest) = found.iter().map(bytes_of).max() {
                let room = PAGE_BYTES / largest.max(1);
                self.count = room.min(self.count * GROWTH).clamp(1, PAGE_ENTRIES_MAX);
            }
            self.page = found.into();
        }
        Ok(self.page.front().map(|(id, _)| *id))
    }

    /// Takes the entry whose id [`Pages::peek`] returned.
    pub fn take(&mut self) -> Option<Record> {
        self.page.pop_front()
    }
}

/// Total bytes of an entry's names and values.
pub fn bytes_of((_, fields): &Record) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}
