//! Extracts JPEG files from a byte stream, whatever is between them.
//!
//! Cameras write boundaries in many forms, or none. The files themselves show where they begin and
//! end: marker segments have lengths, and entropy-coded data contain no markers other than restart
//! markers.

use memchr::memchr;

use crate::image::standard_tables;

/// A larger picture is discarded, in bytes.
const FILE_BYTES_MAX: usize = 64 << 20;

/// Properties of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Offset of the scan, if no Huffman table precedes it.
    tables_missing_at: Option<usize>,
}

/// Extracts files from the bytes fed to it.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    bytes: Vec<u8>,
    walk: MarkerWalk,
    /// Bytes outside of files.
    skipped: usize,
    /// Pictures that were interrupted by the next one, malformed or too large.
    broken: u64,
}

/// Parser state of the file at the start of the buffer.
#[derive(Debug, Default)]
struct MarkerWalk {
    at: usize,
    in_scan: bool,
    has_tables: bool,
    about: About,
}

impl Splitter {
    /// Adds bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Number of incomplete pictures.
    pub(super) fn broken(&self) -> u64 {
        self.broken
    }

    /// Replaces `file` with the next complete file, if there is one.
    pub(super) fn next(&mut self, file: &mut Vec<u8>) -> Option<About> {
        loop {
            if self.walk.at == 0 {
                self.find_begin()?;
            }
            match self.walk_on() {
                ParserStep::More => {
                    if self.bytes.len() > FILE_BYTES_MAX {
                        self.give_up(2);
                        continue;
                    }
                    return None;
                }
                ParserStep::Broken(at) => self.give_up(at),
                ParserStep::End(end) => {
                    let about = self.walk.about;
                    file.clear();
                    match about.tables_missing_at {
                        Some(at) => {
                            file.extend_from_slice(&self.bytes[..at]);
                            standard_tables().write(|_| true, file);
                            file.extend_from_slice(&self.bytes[at..end]);
                        }
                        None => file.extend_from_slice(&self.bytes[..end]),
                    }
                    self.drop_front(end);
                    return Some(about);
                }
            }
        }
    }

    fn give_up(&mut self, at: usize) {
        self.broken += 1;
        self.drop_front(at);
    }

    fn drop_front(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
        self.walk = MarkerWalk::default();
    }

    /// Skips the bytes before `FF D8 FF`.
    fn find_begin(&mut self) -> Option<()> {
        let found = memchr::memmem::find(&self.bytes, &[0xFF, 0xD8, 0xFF]);
        let keep = self.bytes.len().saturating_sub(2);
        let skip = found.unwrap_or(keep);
        self.skipped += skip;
        self.bytes.drain(..skip);
        found?;
        self.walk.at = 2;
        Some(())
    }

    fn walk_on(&mut self) -> ParserStep {
        let bytes = &self.bytes;
        let walk = &mut self.walk;
        loop {
            if walk.in_scan {
                let Some(found) = memchr(0xFF, &bytes[walk.at..]) else {
                    walk.at = bytes.len();
                    return ParserStep::More;
                };
                walk.at += found;
                match bytes.get(walk.at + 1) {
                    None => return ParserStep::More,
                    Some(0x00 | 0xD0..=0xD7) => walk.at += 2,
                    Some(0xFF) => walk.at += 1,
                    Some(_) => walk.in_scan = false,
                }
                continue;
            }
            let Some(&[first, marker]) = bytes.get(walk.at..walk.at + 2) else {
                return ParserStep::More;
            };
            match (first, marker) {
                (0xFF, 0xFF) => walk.at += 1,
                (0xFF, 0xD9) => return ParserStep::End(walk.at + 2),
                // Another file begins within this one.
                (0xFF, 0xD8) => return ParserStep::Broken(walk.at),
                (0xFF, 0x01 | 0xD0..=0xD7) => walk.at += 2,
                (0xFF, 0xC0..=0xFE) => {
                    let Some(&[high, low]) = bytes.get(walk.at + 2..walk.at + 4) else {
                        return ParserStep::More;
                    };
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    let Some(segment) = bytes.get(walk.at + 4..walk.at + 2 + length.max(2)) else {
                        return ParserStep::More;
                    };
                    match (marker, segment) {
                        (0xC4, _) => walk.has_tables = true,
                        (0xC0..=0xC3, &[_, h1, h0, w1, w0, ..]) => {
                            walk.about.height = u16::from_be_bytes([h1, h0]).into();
                            walk.about.width = u16::from_be_bytes([w1, w0]).into();
                        }
                        (0xDA, _) => {
                            walk.in_scan = true;
                            if !walk.has_tables && walk.about.tables_missing_at.is_none() {
                                walk.about.tables_missing_at = Some(walk.at);
                            }
                        }
                        _ => {}
                    }
                    walk.at += 2 + length.max(2);
                }
                _ => return ParserStep::Broken(walk.at.max(2)),
            }
        }
    }
}

enum ParserStep {
    More,
    Broken(usize),
    End(usize),
}

/// Checks that one file is complete, inserts missing Huffman tables and returns its properties.
pub(super) fn mend(file: &mut Vec<u8>) -> Option<About> {
    let mut splitter = Splitter { bytes: std::mem::take(file), ..Splitter::default() };
    splitter.next(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a segment that holds the end marker, and data with a stuffed byte and a restart.
    fn file(tables: bool) -> Vec<u8> {
        let mut file = vec![0xFF, 0xD8, 0xFF, 0xE0, 0, 6, 0xFF, 0xD9, 0xFF, 0xD8];
        file.extend([0xFF, 0xC0, 0, 8, 8, 0, 48, 0, 64, 3]);
        if tables {
            file.extend([0xFF, 0xC4, 0, 3, 0]);
        }
        file.extend([0xFF, 0xDA, 0, 2, 1, 0xFF, 0, 2, 0xFF, 0xD3, 3, 0xFF, 0xFF, 0xD9]);
        file
    }

    #[test]
    fn files_are_found_whatever_stands_between_and_however_they_come() {
        for between in
            ["", "--x\r\nContent-Type: image/jpeg\r\n\r\n", "\r\n----x\r\n\r\n", "\u{ff}"]
        {
            let one = [between.as_bytes(), &file(true)[..]].concat();
            let stream = one.repeat(3);
            for step in [1, 2, 3, 7, stream.len()] {
                let (mut splitter, mut found) = (Splitter::default(), Vec::new());
                let mut out = Vec::new();
                for part in stream.chunks(step) {
                    splitter.feed(part);
                    while let Some(about) = splitter.next(&mut out) {
                        assert_eq!((about.width, about.height), (64, 48));
                        found.push(out.clone());
                    }
                }
                assert_eq!(found, [file(true), file(true), file(true)], "{between:?} {step}");
                assert_eq!(splitter.broken(), 0);
            }
        }
    }

    #[test]
    fn missing_tables_are_put_in_before_the_scan() {
        let (mut mended, whole) = (file(false), file(true));
        assert!(mend(&mut mended).is_some());
        assert_eq!(mended.len(), file(false).len() + standard_tables().bytes(false));
        let at = mended.windows(2).position(|pair| pair == [0xFF, 0xC4]).unwrap();
        assert_eq!(&mended[at + standard_tables().bytes(false)..][..2], [0xFF, 0xDA]);
        let mut same = whole.clone();
        assert!(mend(&mut same).is_some() && same == whole);
    }

    #[test]
    fn a_picture_that_is_broken_off_is_counted_and_the_next_one_found() {
        let mut splitter = Splitter::default();
        // Cut within the scan.
        splitter.feed(&file(true)[..32]);
        splitter.feed(&file(true));
        let mut out = Vec::new();
        assert!(splitter.next(&mut out).is_some());
        assert_eq!((out, splitter.broken()), (file(true), 1));
        splitter.feed(&[0xFF, 0xD8, 0xFF, 0x00, 0x00]);
        splitter.feed(&file(true));
        assert!(splitter.next(&mut Vec::new()).is_some());
    }
}
