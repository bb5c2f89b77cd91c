//! Reader of NUT, the container in which `ffmpeg` passes pictures, each with its time.
//!
//! Implements the specification (NUT 20230301, version 3) for one video stream in a pipe. Every
//! frame is read by its declared size. There is no resynchronisation, because a pipe loses nothing.

use std::io::{self, BufReader, Read};

/// Signature at the start of the file.
const FILE_ID: &[u8] = b"nut/multimedia container\0";
const MAIN: u64 = 0x4E4D_7A56_1F5F_04AD;
const STREAM: u64 = 0x4E53_1140_5BF2_F9DB;
const SYNCPOINT: u64 = 0x4E4B_E4AD_EECA_4569;
/// Maximum length of a header, in bytes; a longer one is not NUT.
const HEADER_BYTES_MAX: u64 = 1 << 16;
/// Maximum size of a picture: four bytes for each of 16384 x 16384 pixels.
const FRAME_BYTES_MAX: u64 = 1 << 30;

const FLAG_CODED_PTS: u64 = 8;
const FLAG_STREAM_ID: u64 = 16;
const FLAG_SIZE_MSB: u64 = 32;
const FLAG_CHECKSUM: u64 = 64;
const FLAG_RESERVED: u64 = 128;
const FLAG_SM_DATA: u64 = 256;
const FLAG_HEADER_IDX: u64 = 1024;
const FLAG_MATCH_TIME: u64 = 2048;
const FLAG_CODED: u64 = 4096;
const FLAG_INVALID: u64 = 8192;

/// Meaning of a frame code.
#[derive(Clone, Copy, Debug, Default)]
struct FrameCode {
    flags: u64,
    pts_delta: i64,
    size_mul: u64,
    size_lsb: u64,
    reserved: u64,
    elided: u64,
}

/// Contents of the stream header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NutHeader {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Codec name, such as `I420` or `MJPG`.
    pub(crate) fourcc: [u8; 4],
}

/// Reads frames from a pipe.
#[derive(Debug)]
pub(crate) struct Nut<R> {
    input: BufReader<R>,
    codes: Vec<FrameCode>,
    /// Numerator and denominator of the time bases.
    bases: Vec<(u64, u64)>,
    elisions: Vec<Vec<u8>>,
    header: NutHeader,
    base: usize,
    msb_shift: u32,
    last_pts: i64,
    begun: bool,
}

impl<R: Read> Nut<R> {
    /// A reader that has read nothing.
    pub(crate) fn new(input: R) -> Nut<R> {
        Nut {
            input: BufReader::with_capacity(4096, input),
            codes: vec![FrameCode { flags: FLAG_INVALID, ..FrameCode::default() }; 256],
            bases: Vec::new(),
            elisions: vec![Vec::new()],
            header: NutHeader { width: 0, height: 0, fourcc: [0; 4] },
            base: 0,
            msb_shift: 0,
            last_pts: 0,
            begun: false,
        }
    }

    /// The stream header; sizes are 0 before it is read.
    pub(crate) fn header(&self) -> &NutHeader {
        &self.header
    }

    /// The underlying reader.
    pub(crate) fn input(&mut self) -> &mut R {
        self.input.get_mut()
    }

    /// Replaces `bytes` with the next frame and returns its presentation time in seconds. `None` is
    /// the end between two frames.
    ///
    /// `UnexpectedEof` if the pipe ends within a frame, `InvalidData` if the data is not NUT, and
    /// the errors of the pipe.
    pub(crate) fn next(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<f64>> {
        if !self.begun && !self.begin()? {
            return Ok(None);
        }
        loop {
            let mut first = [0];
            if self.input.read(&mut first)? == 0 {
                return Ok(None);
            }
            if first[0] == b'N' {
                self.packet()?;
            } else {
                return self.frame(first[0], bytes).map(Some);
            }
        }
    }

    fn begin(&mut self) -> io::Result<bool> {
        let mut id = [0; FILE_ID.len()];
        if self.input.read(&mut id[..1])? == 0 {
            return Ok(false);
        }
        self.input.read_exact(&mut id[1..])?;
        if id != FILE_ID {
            return Err(wrong("it does not begin with the NUT signature"));
        }
        self.begun = true;
        Ok(true)
    }

    /// Reads a header whose first byte was already read.
    fn packet(&mut self) -> io::Result<()> {
        let mut rest = [0; 7];
        self.input.read_exact(&mut rest)?;
        let code = rest.iter().fold(u64::from(b'N'), |code, byte| code << 8 | u64::from(*byte));
        let length = number(&mut self.input)?;
        if length > HEADER_BYTES_MAX {
            return Err(wrong("a header is too long"));
        }
        if length > 4096 {
            self.input.read_exact(&mut [0; 4])?;
        }
        let mut body = vec![0; usize::try_from(length).unwrap_or(0)];
        self.input.read_exact(&mut body)?;
        let body = &mut &body[..];
        match code {
            MAIN => self.main(body),
            STREAM => self.stream(body),
            SYNCPOINT => {
                let bases = self.bases.len().max(1) as u64;
                let stamp = number(body)?;
                let base = usize::try_from(stamp % bases).unwrap_or(0);
                self.last_pts = self.in_own_base(stamp / bases, base);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Converts a time to the stream's own time base.
    fn in_own_base(&self, stamp: u64, base: usize) -> i64 {
        let of = |at: usize| self.bases.get(at).copied().unwrap_or((1, 1));
        let ((num, den), (own_num, own_den)) = (of(base), of(self.base));
        let scaled = u128::from(stamp) * u128::from(num) * u128::from(own_den);
        let by = (u128::from(den) * u128::from(own_num)).max(1);
        i64::try_from(scaled / by).unwrap_or(i64::MAX)
    }

    fn main(&mut self, body: &mut &[u8]) -> io::Result<()> {
        let version = number(body)?;
        if !(2..=4).contains(&version) {
            return Err(wrong("its version is not 2 to 4"));
        }
        if version > 3 {
            number(body)?;
        }
        let (_streams, _distance) = (number(body)?, number(body)?);
        let bases = number(body)?.min(HEADER_BYTES_MAX);
        self.bases =
            (0..bases).map(|_| Ok((number(body)?, number(body)?))).collect::<io::Result<_>>()?;
        self.codes.clear();
        let (mut code, mut mul) = (FrameCode::default(), 1);
        while self.codes.len() < 256 {
            code.flags = number(body)?;
            let fields = number(body)?;
            let field = |at: u64, body: &mut &[u8]| (fields > at).then(|| number(body)).transpose();
            if fields > 0 {
                code.pts_delta = signed(body)?;
            }
            mul = field(1, body)?.unwrap_or(mul);
            field(2, body)?;
            let size = field(3, body)?.unwrap_or(0);
            code.reserved = field(4, body)?.unwrap_or(0);
            let count = match field(5, body)? {
                Some(count) => count,
                None => mul.saturating_sub(size),
            };
            if fields > 6 {
                signed(body)?;
            }
            code.elided = field(7, body)?.unwrap_or(code.elided);
            for at in 8..fields.min(64) {
                field(at, body)?;
            }
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(256);
            let before = self.codes.len();
            let mut at = 0;
            while at < count && self.codes.len() < 256 {
                // The first letter of headers is not a frame code.
                if self.codes.len() == usize::from(b'N') {
                    self.codes.push(FrameCode { flags: FLAG_INVALID, ..FrameCode::default() });
                    continue;
                }
                self.codes.push(FrameCode { size_mul: mul, size_lsb: size + at as u64, ..code });
                at += 1;
            }
            if self.codes.len() == before {
                return Err(wrong("its table of frame codes is invalid"));
            }
        }
        let elisions = number(body).unwrap_or(0).min(127);
        for _ in 0..elisions {
            let text = text(body)?;
            self.elisions.push(text);
        }
        Ok(())
    }

    fn stream(&mut self, body: &mut &[u8]) -> io::Result<()> {
        let (_id, class) = (number(body)?, number(body)?);
        let fourcc = text(body)?;
        self.base = usize::try_from(number(body)?).unwrap_or(0);
        self.msb_shift = u32::try_from(number(body)?).unwrap_or(0).min(62);
        let (_distance, _delay, _flags) = (number(body)?, number(body)?, number(body)?);
        let _specific = text(body)?;
        if class != 0 {
            return Err(wrong("its stream is not video"));
        }
        let mut side = || number(body).map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        (self.header.width, self.header.height) = (side()?, side()?);
        for (to, from) in self.header.fourcc.iter_mut().zip(fourcc) {
            *to = from;
        }
        Ok(())
    }

    fn frame(&mut self, first: u8, bytes: &mut Vec<u8>) -> io::Result<f64> {
        let code = self.codes[usize::from(first)];
        let mut flags = code.flags;
        if flags & FLAG_INVALID != 0 {
            return Err(wrong("a frame begins with an invalid code"));
        }
        let input = &mut self.input;
        if flags & FLAG_CODED != 0 {
            flags ^= number(input)?;
        }
        if flags & FLAG_STREAM_ID != 0 {
            number(input)?;
        }
        let pts = match flags & FLAG_CODED_PTS != 0 {
            true => self.coded_pts()?,
            false => self.last_pts.saturating_add(code.pts_delta),
        };
        let input = &mut self.input;
        let mut size = code.size_lsb;
        if flags & FLAG_SIZE_MSB != 0 {
            size = number(input)?
                .checked_mul(code.size_mul)
                .and_then(|high| high.checked_add(size))
                .unwrap_or(u64::MAX);
        }
        if flags & FLAG_MATCH_TIME != 0 {
            signed(input)?;
        }
        let elided = match flags & FLAG_HEADER_IDX != 0 {
            true => number(input)?,
            false => code.elided,
        };
        let mut reserved = code.reserved;
        if flags & FLAG_RESERVED != 0 {
            reserved = number(input)?;
        }
        for _ in 0..reserved.min(64) {
            number(input)?;
        }
        if flags & FLAG_CHECKSUM != 0 {
            input.read_exact(&mut [0; 4])?;
        }
        if flags & FLAG_SM_DATA != 0 || size > FRAME_BYTES_MAX {
            return Err(wrong("a frame is of another version, or too large"));
        }
        let head = usize::try_from(elided)
            .ok()
            .and_then(|at| self.elisions.get(at))
            .map_or(&[][..], |head| head);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let head = if size > 4096 { &[][..] } else { head };
        bytes.resize(size.max(head.len()), 0);
        let (front, rest) = bytes.split_at_mut(head.len());
        front.copy_from_slice(head);
        self.input.read_exact(rest)?;
        self.last_pts = pts;
        let (num, den) = self.bases.get(self.base).copied().unwrap_or((1, 1));
        Ok(pts as f64 * num as f64 / den.max(1) as f64)
    }

    /// Reads a time, which is written in full or only by its lower bits.
    fn coded_pts(&mut self) -> io::Result<i64> {
        let coded = i64::try_from(number(&mut self.input)?).unwrap_or(i64::MAX);
        let range = 1_i64 << self.msb_shift;
        if coded >= range {
            return Ok(coded - range);
        }
        let (mask, delta) = (range - 1, self.last_pts - (range - 1) / 2);
        Ok(((coded - delta) & mask) + delta)
    }
}

/// Reads a number of 7 bits per byte, highest first.
fn number(input: &mut impl Read) -> io::Result<u64> {
    let mut value = 0_u64;
    for _ in 0..10 {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        value = value << 7 | u64::from(byte[0] & 0x7F);
        if byte[0] < 0x80 {
            return Ok(value);
        }
    }
    Err(wrong("a number does not end"))
}

fn signed(input: &mut impl Read) -> io::Result<i64> {
    let value = i64::try_from(number(input)?.wrapping_add(1)).unwrap_or(i64::MAX);
    Ok(if value & 1 == 1 { -(value >> 1) } else { value >> 1 })
}

fn text(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = number(input)?.min(HEADER_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the data from ffmpeg is not a valid video: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_signs_are_read() {
        assert_eq!(number(&mut &[0x81, 0x00][..]).unwrap(), 128);
        for (bytes, value) in [(0, 0), (1, 1), (2, -1), (3, 2), (4, -2)] {
            assert_eq!(signed(&mut &[bytes][..]).unwrap(), value);
        }
        assert!(number(&mut &[0xFF; 11][..]).is_err());
    }

    #[test]
    fn anything_else_is_refused_and_nothing_at_all_is_the_end() {
        let next = |bytes: &[u8]| Nut::new(bytes).next(&mut Vec::new());
        assert_eq!(next(b"").unwrap(), None);
        assert_eq!(next(b"nut/").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(next(&[b'x'; 99]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let early = [FILE_ID, &[0x00; 9]].concat();
        assert_eq!(next(&early).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
