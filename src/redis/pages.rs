//! A stream read in pages, for those who look at many entries. Entries hold whole frames, so a page
//! is as many as a bound on bytes has room for, by the largest of the page before.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Control, Record};
use crate::base::Fault;
use crate::frame::EntryId;

/// Most bytes of a page, as far as the page before it tells. One entry is always read.
const PAGE_BYTES: usize = 8 << 20;

/// Most entries of a page. What comes may be larger than what came, and the server holds the whole
/// answer as well: at the largest frames allowed this is 1 GiB, once, before the page shrinks.
const PAGE_ENTRIES_MAX: usize = 16;

/// A page has at most so many times the entries of the one before: the first has a single one.
const GROWTH: usize = 4;

/// Reads a stream entry by entry, from its end or from an entry on.
#[derive(Debug)]
pub struct Pages {
    stream: String,
    course: Course,
    page: VecDeque<Record>,
    count: usize,
    /// The beginning of the stream has been reached: nothing comes before it any more.
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
enum Course {
    /// To the entries before this one; at first, to the last of the stream.
    Back(Option<EntryId>),
    /// To the entries after this one.
    Forward(EntryId),
}

impl Pages {
    /// From the end of the stream to its beginning.
    pub fn back(stream: &str) -> Pages {
        Pages::new(stream, Course::Back(None))
    }

    /// The entries after `after`.
    pub fn forward(stream: &str, after: EntryId) -> Pages {
        Pages::new(stream, Course::Forward(after))
    }

    fn new(stream: &str, course: Course) -> Pages {
        Pages { stream: stream.to_owned(), course, page: VecDeque::new(), count: 1, ended: false }
    }

    /// The id of the next entry, if there is one. `most` is how many will be asked for at most;
    /// forward, `block` is how long to wait for one.
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
                Course::Back(before) => {
                    let found = control.before(&self.stream, *before, count)?;
                    *before = found.last().map(|(id, _)| *id).or(*before);
                    self.ended = found.is_empty();
                    found
                }
                Course::Forward(after) => {
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

    /// Takes the entry whose id [`Pages::peek`] has said.
    pub fn take(&mut self) -> Option<Record> {
        self.page.pop_front()
    }
}

/// Bytes of an entry's names and values.
pub fn bytes_of((_, fields): &Record) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}
