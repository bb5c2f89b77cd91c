//! A reader for RESP version 2 over any [`Read`].
//!
//! Protocol: <https://redis.io/docs/latest/develop/reference/protocol-spec/>. Headers go through a
//! small buffer; the bytes of a bulk string go straight into the caller's memory. Every declared
//! length is checked against a limit before the caller can allocate for it.

use std::io::{self, Read};

use crate::base::limits;

/// Size of the buffer for headers and small values. Larger than any header, and small enough that
/// little of a large bulk string passes through it.
const BUFFER_BYTES: usize = 16 << 10;

/// Size of a piece shown to the watcher of a bulk string: small enough to be still in the L2 cache.
const PIECE_BYTES: usize = 128 << 10;

/// Limits on the lengths that a peer may declare.
#[derive(Clone, Copy, Debug)]
pub struct RespLimits {
    /// Maximum bytes of one bulk string.
    pub bulk_bytes_max: u64,
    /// Maximum elements of one array.
    pub array_max: usize,
}

impl RespLimits {
    /// For replies that are kept whole in memory.
    pub const REDIS: RespLimits = RespLimits {
        bulk_bytes_max: limits::RESP_BULK_BYTES_MAX,
        array_max: limits::RESP_ARRAY_MAX,
    };

    /// For stream entries, whose parts are read one by one: whatever a server can store. The caller
    /// decides what to keep of a value and skips the rest.
    pub const ENTRIES: RespLimits = RespLimits {
        bulk_bytes_max: limits::ENTRY_BULK_BYTES_MAX,
        array_max: limits::ENTRY_ARRAY_MAX,
    };
}

/// The beginning of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespHeader<'a> {
    /// A status such as `OK`.
    Simple(&'a [u8]),
    /// An error answer, which begins with its code.
    Error(&'a [u8]),
    /// A number.
    Int(i64),
    /// A bulk string of this many bytes follows.
    Bulk(u64),
    /// This many values follow.
    Array(usize),
    /// Nil.
    Nil,
}

/// Why reading failed. After any of these the connection is unusable.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The transport failed, timed out, or was closed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer does not speak RESP, or declares more than is allowed.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
}

/// Reads values from a transport that is passed in at each call.
#[derive(Debug)]
pub struct RespReader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    limits: RespLimits,
}

impl RespReader {
    /// A reader with an empty buffer.
    pub fn new(limits: RespLimits) -> Self {
        RespReader { buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), start: 0, end: 0, limits }
    }

    /// Changes the limits for what follows.
    pub fn allow(&mut self, limits: RespLimits) {
        self.limits = limits;
    }

    /// Whether bytes are waiting in the buffer.
    pub fn has_buffered(&self) -> bool {
        self.start < self.end
    }

    /// Reads the next header.
    ///
    /// # Errors
    /// [`Trouble::Protocol`] for anything that is not a header or exceeds a limit.
    pub fn header(&mut self, io: &mut impl Read) -> Result<RespHeader<'_>, Trouble> {
        let line = self.line(io)?;
        let line = &self.buffer[line.0..line.1];
        let (&kind, rest) = line.split_first().ok_or(Trouble::Protocol("an empty line"))?;
        match kind {
            b'+' => Ok(RespHeader::Simple(rest)),
            b'-' => Ok(RespHeader::Error(rest)),
            b':' => Ok(RespHeader::Int(number(rest)?)),
            b'$' => match number(rest)? {
                -1 => Ok(RespHeader::Nil),
                len => {
                    let len =
                        u64::try_from(len).map_err(|_| Trouble::Protocol("negative length"))?;
                    if len > self.limits.bulk_bytes_max {
                        return Err(Trouble::Protocol("bulk string above the limit"));
                    }
                    Ok(RespHeader::Bulk(len))
                }
            },
            b'*' => match number(rest)? {
                -1 => Ok(RespHeader::Nil),
                len => {
                    let len =
                        usize::try_from(len).map_err(|_| Trouble::Protocol("negative length"))?;
                    if len > self.limits.array_max {
                        return Err(Trouble::Protocol("array above the limit"));
                    }
                    Ok(RespHeader::Array(len))
                }
            },
            _ => Err(Trouble::Protocol("unknown type of value")),
        }
    }

    /// Reads the bytes of a bulk string whose header has been read, and the CRLF after them.
    ///
    /// # Errors
    /// [`Trouble::Protocol`] if the CRLF is not where the length says.
    pub fn bulk_into(&mut self, io: &mut impl Read, target: &mut [u8]) -> Result<(), Trouble> {
        let buffered = self.take_buffered(target);
        // The rest goes from the socket to its place without passing through the buffer.
        io.read_exact(&mut target[buffered..])?;
        self.line_end(io)
    }

    /// The same in pieces of 128 KiB. `arrived` is called with all bytes so far as soon as a piece
    /// has arrived. Once it returns false, the rest is read in one piece.
    ///
    /// # Errors
    /// As [`RespReader::bulk_into`].
    pub fn bulk_into_watched(
        &mut self,
        io: &mut impl Read,
        target: &mut [u8],
        mut arrived: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Trouble> {
        let mut filled = self.take_buffered(target);
        loop {
            let wants_more = arrived(&target[..filled]);
            if filled == target.len() {
                return self.line_end(io);
            }
            let piece = if wants_more { PIECE_BYTES } else { target.len() };
            let end = filled.saturating_add(piece).min(target.len());
            io.read_exact(&mut target[filled..end])?;
            filled = end;
        }
    }

    /// Moves the buffered bytes to the beginning of `target`. Returns their number.
    fn take_buffered(&mut self, target: &mut [u8]) -> usize {
        let buffered = (self.end - self.start).min(target.len());
        target[..buffered].copy_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        buffered
    }

    /// Skips the bytes of a bulk string and the CRLF after them.
    ///
    /// # Errors
    /// As [`RespReader::bulk_into`].
    pub fn bulk_discard(&mut self, io: &mut impl Read, len: u64) -> Result<(), Trouble> {
        let mut left = len;
        while left > 0 {
            if self.start == self.end {
                self.fill(io)?;
            }
            let here = ((self.end - self.start) as u64).min(left);
            self.start += usize::try_from(here).unwrap_or(usize::MAX);
            left -= here;
        }
        self.line_end(io)
    }

    /// Reads the bytes of a small bulk string into the buffer and returns them.
    ///
    /// # Errors
    /// [`Trouble::Protocol`] if it does not fit into the buffer.
    pub fn bulk_small(&mut self, io: &mut impl Read, len: u64) -> Result<&[u8], Trouble> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| len + 2 <= BUFFER_BYTES)
            .ok_or(Trouble::Protocol("a value is longer than this answer allows"))?;
        while self.end - self.start < len + 2 {
            self.fill(io)?;
        }
        let start = self.start;
        if &self.buffer[start + len..start + len + 2] != b"\r\n" {
            return Err(Trouble::Protocol("the length of a bulk string is not the declared one"));
        }
        self.start += len + 2;
        Ok(&self.buffer[start..start + len])
    }

    /// Reads and discards one whole value. Returns whether it contained an error answer.
    ///
    /// # Errors
    /// As the other functions.
    pub fn skip_value(&mut self, io: &mut impl Read) -> Result<bool, Trouble> {
        let mut pending = 1_usize;
        let mut is_error = false;
        while pending > 0 {
            pending -= 1;
            match self.header(io)? {
                RespHeader::Bulk(len) => self.bulk_discard(io, len)?,
                RespHeader::Array(len) => {
                    pending = pending
                        .checked_add(len)
                        .filter(|&pending| pending <= self.limits.array_max)
                        .ok_or(Trouble::Protocol("array above the limit"))?;
                }
                RespHeader::Error(_) => is_error = true,
                RespHeader::Simple(_) | RespHeader::Int(_) | RespHeader::Nil => {}
            }
        }
        Ok(is_error)
    }

    fn line_end(&mut self, io: &mut impl Read) -> Result<(), Trouble> {
        while self.end - self.start < 2 {
            self.fill(io)?;
        }
        if &self.buffer[self.start..self.start + 2] != b"\r\n" {
            return Err(Trouble::Protocol("the length of a bulk string is not the declared one"));
        }
        self.start += 2;
        Ok(())
    }

    /// Start and end of the next line in the buffer, without its CRLF.
    fn line(&mut self, io: &mut impl Read) -> Result<(usize, usize), Trouble> {
        let mut searched = 0;
        loop {
            let waiting = &self.buffer[self.start..self.end];
            if let Some(at) = memchr::memchr(b'\n', &waiting[searched..]) {
                let line_feed = searched + at;
                if line_feed == 0 || waiting[line_feed - 1] != b'\r' {
                    return Err(Trouble::Protocol("a line does not end with CRLF"));
                }
                let start = self.start;
                self.start += line_feed + 1;
                return Ok((start, start + line_feed - 1));
            }
            searched = waiting.len();
            if searched == BUFFER_BYTES {
                return Err(Trouble::Protocol("an endless line"));
            }
            self.fill(io)?;
        }
    }

    /// Reads more bytes into the buffer; makes room at its end first.
    fn fill(&mut self, io: &mut impl Read) -> Result<(), Trouble> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == BUFFER_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        match io.read(&mut self.buffer[self.end..])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server").into()),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

fn number(digits: &[u8]) -> Result<i64, Trouble> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(Trouble::Protocol("not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns its bytes in pieces of the given sizes, which repeat.
    struct Trickle<'a> {
        rest: &'a [u8],
        pieces: Vec<usize>,
        at: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
            let piece = self.pieces[self.at % self.pieces.len()].max(1);
            self.at += 1;
            let len = piece.min(target.len()).min(self.rest.len());
            target[..len].copy_from_slice(&self.rest[..len]);
            self.rest = &self.rest[len..];
            Ok(len)
        }
    }

    fn header(bytes: &[u8]) -> Result<String, String> {
        let mut reader = RespReader::new(RespLimits { bulk_bytes_max: 100, array_max: 10 });
        reader
            .header(&mut &*bytes)
            .map(|header| format!("{header:?}"))
            .map_err(|trouble| trouble.to_string())
    }

    #[test]
    fn headers_of_every_kind_are_read() {
        assert_eq!(header(b":-42\r\n").unwrap(), "Int(-42)");
        assert_eq!(header(b"$5\r\n").unwrap(), "Bulk(5)");
        assert_eq!(header(b"$-1\r\n").unwrap(), "Nil");
        assert_eq!(header(b"*-1\r\n").unwrap(), "Nil");
        assert_eq!(header(b"*3\r\n").unwrap(), "Array(3)");
    }

    #[test]
    fn declared_lengths_are_refused_before_anything_is_allocated() {
        for wrong in
            ["$101\r\n", "*11\r\n", "$-2\r\n", "*-7\r\n", "$x\r\n", "?\r\n", "\r\n", "+a\n"]
        {
            assert!(header(wrong.as_bytes()).unwrap_err().contains("protocol error"), "{wrong}");
        }
        assert!(header(b"$5").unwrap_err().contains("closed by the server"));
        assert!(header(&[b'+'; BUFFER_BYTES + 1]).unwrap_err().contains("endless line"));
    }

    proptest! {
        #[test]
        fn values_read_the_same_however_they_are_cut(
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300_000), 1..5),
            pieces in proptest::collection::vec(1_usize..20_000, 1..6),
        ) {
            let mut bytes = format!("*{}\r\n", values.len()).into_bytes();
            for value in &values {
                bytes.extend(format!("${}\r\n", value.len()).bytes());
                bytes.extend(value);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"+END\r\n");
            let mut io = Trickle { rest: &bytes, pieces, at: 0 };
            let mut reader = RespReader::new(RespLimits::REDIS);
            prop_assert_eq!(reader.header(&mut io).unwrap(), RespHeader::Array(values.len()));
            for (index, value) in values.iter().enumerate() {
                let RespHeader::Bulk(len) = reader.header(&mut io).unwrap() else { panic!() };
                prop_assert_eq!(len, value.len() as u64);
                match index % 4 {
                    2 => {
                        let mut target = vec![0; value.len()];
                        let mut seen = Vec::new();
                        let arrived = |so_far: &[u8]| {
                            seen.extend_from_slice(&so_far[seen.len()..]);
                            seen.len() < 200_000
                        };
                        reader.bulk_into_watched(&mut io, &mut target, arrived).unwrap();
                        prop_assert_eq!(&target, value);
                        prop_assert_eq!(&seen, value, "everything was shown");
                    }
                    0 => {
                        let mut target = vec![0; value.len()];
                        reader.bulk_into(&mut io, &mut target).unwrap();
                        prop_assert_eq!(&target, value);
                    }
                    1 if value.len() + 2 <= BUFFER_BYTES => {
                        prop_assert_eq!(reader.bulk_small(&mut io, len).unwrap(), &value[..]);
                    }
                    _ => reader.bulk_discard(&mut io, len).unwrap(),
                }
            }
            prop_assert_eq!(reader.header(&mut io).unwrap(), RespHeader::Simple(b"END"));
        }

        #[test]
        fn no_bytes_whatever_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = RespReader::new(RespLimits::REDIS);
            let mut io = &bytes[..];
            for _ in 0..10 {
                if reader.skip_value(&mut io).is_err() {
                    break;
                }
            }
        }
    }
}
