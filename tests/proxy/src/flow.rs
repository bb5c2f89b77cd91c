//! One direction of a connection: bytes that were read and are not due or not written yet.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use framepress::internals::metrics::clock::Tick;

/// Bytes of a segment: the largest read and the largest write.
pub(crate) const SEGMENT_BYTES: usize = 256 << 10;
/// A segment with less free space than this, in bytes, is not read into.
const ROOM_MIN: usize = 32 << 10;
/// Most queued bytes of a direction: 200 ms at more than 1 GB/s.
const QUEUE_BYTES: usize = 256 << 20;
/// Most spare segments: as many as a full queue has.
const SPARE_MAX: usize = QUEUE_BYTES / SEGMENT_BYTES;

/// Segments kept for reuse.
#[derive(Default)]
pub(crate) struct Spare(Vec<Box<[u8]>>);

impl Spare {
    fn take(&mut self) -> Box<[u8]> {
        self.0.pop().unwrap_or_else(|| vec![0; SEGMENT_BYTES].into_boxed_slice())
    }

    fn put(&mut self, bytes: Box<[u8]>) {
        if self.0.len() < SPARE_MAX {
            self.0.push(bytes);
        }
    }
}

struct Segment {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// How a direction ends when all its bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The sender has closed it.
    Closed,
    /// The connection is reset.
    Reset,
}

/// The queue of one direction.
#[derive(Default)]
pub(crate) struct Flow {
    segments: VecDeque<Segment>,
    /// Due times in order, each with its number of bytes.
    due: VecDeque<(Tick, usize)>,
    waiting: usize,
    /// Set when nothing more is read: when the end is due, and its kind.
    end: Option<(Tick, End)>,
    /// The receiver accepts no more bytes at present.
    pub(crate) blocked: bool,
    /// The end was passed on.
    pub(crate) over: bool,
}

impl Flow {
    /// Whether more may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.end.is_none() && self.waiting < QUEUE_BYTES
    }

    /// Reads once, at most `limit` bytes. Returns how many came; 0 if none were available.
    pub(crate) fn read(
        &mut self,
        from: &mut impl Read,
        limit: usize,
        spare: &mut Spare,
    ) -> io::Result<usize> {
        let full = self.segments.back().is_none_or(|last| SEGMENT_BYTES - last.end < ROOM_MIN);
        if full {
            self.segments.push_back(Segment { bytes: spare.take(), start: 0, end: 0 });
        }
        let Some(last) = self.segments.back_mut() else { return Ok(0) };
        let until = SEGMENT_BYTES.min(last.end + limit);
        match from.read(&mut last.bytes[last.end..until]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                last.end += read;
                self.waiting += read;
                Ok(read)
            }
            Err(error) if is_pause(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Sets when the bytes read last are due.
    pub(crate) fn note(&mut self, at: Tick, bytes: usize) {
        self.due.push_back((at, bytes));
    }

    /// Removes the last `bytes` bytes that were read.
    pub(crate) fn take_back(&mut self, bytes: usize) {
        if let Some(last) = self.segments.back_mut() {
            last.end -= bytes;
            self.waiting -= bytes;
        }
    }

    /// Marks the end of input.
    pub(crate) fn finish(&mut self, at: Tick, end: End) {
        self.end.get_or_insert((at, end));
    }

    /// Drops all bytes that can no longer be delivered.
    pub(crate) fn give_up(&mut self, spare: &mut Spare) {
        self.segments.drain(..).for_each(|segment| spare.put(segment.bytes));
        self.due.clear();
        (self.waiting, self.blocked, self.over) = (0, false, true);
        self.finish(Tick::now(), End::Closed);
    }

    /// When the next action is due that no socket event triggers.
    pub(crate) fn next_due(&self) -> Option<Tick> {
        if self.over || self.blocked {
            return None;
        }
        self.due.front().map(|(at, _)| *at).or(self.end.map(|(at, _)| at))
    }

    /// Writes the bytes that are due. Returns how many were written.
    pub(crate) fn write(
        &mut self,
        to: &mut impl Write,
        now: Tick,
        spare: &mut Spare,
    ) -> io::Result<usize> {
        let mut written = 0;
        self.blocked = false;
        loop {
            let mut due = 0;
            for (_, bytes) in self.due.iter().take_while(|(at, _)| *at <= now) {
                due += bytes;
                if due >= SEGMENT_BYTES {
                    break;
                }
            }
            let Some(first) = self.segments.front_mut().filter(|_| due > 0) else { break };
            let len = due.min(first.end - first.start);
            match to.write(&first.bytes[first.start..first.start + len]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => {
                    first.start += wrote;
                    written += wrote;
                    self.waiting -= wrote;
                    if first.start == first.end
                        && let Some(empty) = self.segments.pop_front()
                    {
                        spare.put(empty.bytes);
                    }
                    self.settle(wrote);
                }
                Err(error) if is_pause(&error) => {
                    self.blocked = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// The end, if it is due and all bytes are written.
    pub(crate) fn ending(&self, now: Tick) -> Option<End> {
        let (at, end) = self.end?;
        (!self.over && self.due.is_empty() && at <= now).then_some(end)
    }

    fn settle(&mut self, mut written: usize) {
        while let Some((_, bytes)) = self.due.front_mut() {
            if *bytes > written {
                *bytes -= written;
                return;
            }
            written -= *bytes;
            self.due.pop_front();
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bytes_go_when_they_are_due_and_in_order() {
        let (mut flow, mut spare) = (Flow::default(), Spare::default());
        let now = Tick::now();
        let sent: Vec<u8> = (0..2_000_000).map(|at: usize| (at % 251) as u8).collect();
        let mut from = &sent[..];
        let mut at = now;
        while let Ok(read @ 1..) = flow.read(&mut from, 100_000, &mut spare) {
            flow.note(at, read);
            at = at.after(Duration::from_millis(1));
        }
        flow.finish(at, End::Closed);
        let mut taken = Vec::new();
        assert!(flow.write(&mut taken, now, &mut spare).unwrap() <= 100_000);
        let later = now.after(Duration::from_millis(5));
        flow.write(&mut taken, later, &mut spare).unwrap();
        assert!(taken.len() > 400_000 && taken.len() <= 600_000, "{}", taken.len());
        assert!(flow.ending(later).is_none());
        flow.write(&mut taken, at, &mut spare).unwrap();
        assert!(taken == sent, "the same bytes");
        assert_eq!((flow.ending(at), flow.waiting), (Some(End::Closed), 0));
    }
}
