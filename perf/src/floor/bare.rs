//! Only the unavoidable work: reading the entry into a reused buffer, one libjpeg-turbo call (two
//! for JPEG input), writing and acknowledging the result. It has no order, no fence, no envelope
//! around the result, no figures, and no hand-over between threads.

use std::io::{self, IoSlice, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use framepress::internals::frame::{Planes, View};
use framepress::internals::image::{Adaptive, Codes, Encoder, Format, Learner, Target};
use framepress::internals::instruments::Size;
use framepress::internals::redis::{RespHeader, RespLimits, RespReader};
use framepress::internals::wire::{self, Scratch};
use turbojpeg::{Decompressor, Subsamp, YuvImage};

use crate::Outcome;
use crate::common::thread_cpu;

pub const STREAM: &str = "bare_frames";
pub const OUTPUT: &str = "bare_results";
pub const GROUP: &str = "bare";

/// Entries per read.
const COUNT: usize = 8;

/// Planes without padding.
const ALIGN: usize = 1;

/// CPU time of each of the three tasks.
#[derive(Clone, Copy, Default)]
pub struct Cpu {
    pub read: Duration,
    pub code: Duration,
    pub write: Duration,
}

impl Cpu {
    pub fn sum(&self) -> Duration {
        self.read + self.code + self.write
    }

    pub fn plus(&self, other: &Cpu) -> Cpu {
        Cpu {
            read: self.read + other.read,
            code: self.code + other.code,
            write: self.write + other.write,
        }
    }
}

/// State of one thread.
pub struct Bare {
    name: String,
    input: UnixStream,
    reader: RespReader,
    output: UnixStream,
    answers: RespReader,
    request: Vec<u8>,
    data: Vec<u8>,
    coder: Coder,
}

impl Bare {
    pub fn new(socket: &str, index: usize, quality: u8, size: Size) -> Outcome<Bare> {
        Ok(Bare {
            name: format!("bare-{index}"),
            input: UnixStream::connect(socket)?,
            reader: RespReader::new(RespLimits::REDIS),
            output: UnixStream::connect(socket)?,
            answers: RespReader::new(RespLimits::REDIS),
            request: Vec::new(),
            data: Vec::new(),
            coder: Coder::new(quality, size)?,
        })
    }

    /// Works until all threads together have processed `frames`.
    pub fn work(&mut self, done: &Arc<AtomicU64>, frames: u64) -> Outcome<Cpu> {
        let mut cpu = Cpu::default();
        while done.load(Ordering::Relaxed) < frames {
            let began = thread_cpu();
            let count = self.request_frames()?;
            cpu.read += thread_cpu() - began;
            for _ in 0..count {
                let began = thread_cpu();
                let id = self.read_entry()?;
                let read = thread_cpu();
                let mut scratch = Scratch::default();
                let frame = wire::open(&self.data, u64::MAX, &mut scratch)
                    .map_err(|reject| reject.to_string())?;
                let len = match Format::from_name(frame.image.format) {
                    Some(Format::Jpeg) => self.coder.recode_jpeg(frame.image.bytes)?,
                    _ => self.coder.code_pixels(frame.image.bytes)?,
                };
                let coded = thread_cpu();
                self.write_result(&id, len)?;
                cpu.read += read - began;
                cpu.code += coded - read;
                cpu.write += thread_cpu() - coded;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(cpu)
    }

    /// Requests frames; returns how many will come.
    fn request_frames(&mut self) -> Outcome<usize> {
        self.request.clear();
        let count = COUNT.to_string();
        command(
            &mut self.request,
            &[
                "XREADGROUP",
                "GROUP",
                GROUP,
                &self.name,
                "COUNT",
                &count,
                "BLOCK",
                "50",
                "STREAMS",
                STREAM,
                ">",
            ],
        );
        self.input.write_all(&self.request)?;
        let (reader, input) = (&mut self.reader, &mut self.input);
        match reader.header(input)? {
            RespHeader::Nil => return Ok(0),
            RespHeader::Array(1) => {}
            other => return Err(format!("XREADGROUP answered {other:?}").into()),
        }
        expect_array(reader, input)?;
        let len = expect_bulk(reader, input)?;
        reader.bulk_discard(input, len)?;
        expect_array(reader, input)
    }

    /// Reads one entry, its `data` into the reused buffer; returns the id.
    fn read_entry(&mut self) -> Outcome<String> {
        let (reader, input) = (&mut self.reader, &mut self.input);
        expect_array(reader, input)?;
        let len = expect_bulk(reader, input)?;
        let id = String::from_utf8(reader.bulk_small(input, len)?.to_vec())?;
        let values = expect_array(reader, input)?;
        for _ in 0..values / 2 {
            let len = expect_bulk(reader, input)?;
            let is_data = reader.bulk_small(input, len)? == b"data";
            let len = expect_bulk(reader, input)?;
            if is_data {
                self.data.resize(usize::try_from(len)?, 0);
                reader.bulk_into(input, &mut self.data)?;
            } else {
                reader.bulk_discard(input, len)?;
            }
        }
        Ok(id)
    }

    fn write_result(&mut self, id: &str, len: usize) -> Outcome<()> {
        let request = &mut self.request;
        request.clear();
        write!(request, "*5\r\n$4\r\nXADD\r\n${}\r\n{OUTPUT}\r\n$1\r\n*\r\n", OUTPUT.len())?;
        write!(request, "$4\r\ndata\r\n${len}\r\n")?;
        let cut = request.len();
        request.extend_from_slice(b"\r\n");
        command(request, &["XACK", STREAM, GROUP, id]);
        let (head, tail) = request.split_at(cut);
        let mut slices =
            [IoSlice::new(head), IoSlice::new(&self.coder.out[..len]), IoSlice::new(tail)];
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match self.output.write_vectored(rest)? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                written => IoSlice::advance_slices(&mut rest, written),
            }
        }
        for _ in 0..2 {
            if self.answers.skip_value(&mut self.output)? {
                return Err("XADD or XACK was refused".into());
            }
        }
        Ok(())
    }
}

/// The codec calls, with Huffman tables learnt from the first picture, like the engine.
struct Coder {
    encoder: Encoder,
    decompressor: Decompressor,
    target: Target,
    size: Size,
    camera: Adaptive,
    learner: Learner,
    planes: Planes,
    out: Vec<u8>,
}

impl Coder {
    fn new(quality: u8, size: Size) -> Outcome<Coder> {
        let mut planes = Planes::default();
        planes.reshape(size.width as usize, size.height as usize, false);
        Ok(Coder {
            encoder: Encoder::new()?,
            decompressor: Decompressor::new()?,
            target: Target { format: Format::Jpeg, quality, webp_method: 0 },
            size,
            camera: Adaptive::default(),
            learner: Learner::default(),
            planes,
            out: Vec::new(),
        })
    }

    fn code_pixels(&mut self, pixels: &[u8]) -> Outcome<usize> {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let view = View { width, height, channels: 3, interleaved: Some(pixels), planes: None };
        self.code(&view)
    }

    fn recode_jpeg(&mut self, file: &[u8]) -> Outcome<usize> {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let subsamp = Subsamp::Sub2x2;
        let mut planes = std::mem::take(&mut self.planes);
        let pixels = planes.samples_mut();
        let image = YuvImage { pixels, width, align: ALIGN, height, subsamp };
        self.decompressor.decompress_to_yuv(file, image)?;
        let view = View { width, height, channels: 3, interleaved: None, planes: Some(&planes) };
        let coded = self.code(&view);
        self.planes = planes;
        coded
    }

    fn code(&mut self, view: &View<'_>) -> Outcome<usize> {
        let (quality, chosen) =
            (self.target.quality, self.camera.choose(self.target.quality, false));
        let codes = Codes::Tables(chosen.tables());
        self.encoder
            .encode_with(view, &self.target, codes, &mut self.out)
            .map_err(|reject| reject.to_string())?;
        if !chosen.is_learnt() {
            self.camera.learn(&mut self.learner, quality, &self.out, false);
        }
        Ok(self.out.len())
    }
}

fn command(request: &mut Vec<u8>, words: &[&str]) {
    // Writing to memory cannot fail.
    let _ = write!(request, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(request, "${}\r\n{word}\r\n", word.len());
    }
}

fn expect_array(reader: &mut RespReader, io: &mut UnixStream) -> Outcome<usize> {
    match reader.header(io)? {
        RespHeader::Array(len) => Ok(len),
        other => Err(format!("expected an array, got {other:?}").into()),
    }
}

fn expect_bulk(reader: &mut RespReader, io: &mut UnixStream) -> Outcome<u64> {
    match reader.header(io)? {
        RespHeader::Bulk(len) => Ok(len),
        other => Err(format!("expected a string, got {other:?}").into()),
    }
}
