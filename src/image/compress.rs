//! Safe wrapper around `compress.c`, the encoder of JPEG files.
//!
//! Each worker reuses one libjpeg object for all its pictures. libjpeg-turbo allocates on the C
//! heap. This module allocates on Rust's heap only if a file outgrows the caller's buffer: it then
//! enlarges the buffer and encodes the picture again.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr::{self, NonNull};

use turbojpeg::Subsamp;

use super::huffman::{Table, Tables};
use super::turbo::{Complaint, Layout};

/// Opaque handle of the C struct.
#[repr(C)]
struct RawCompressor {
    _private: [u8; 0],
}

#[repr(C)]
struct RawTable {
    counts: [u8; 16],
    values: *const u8,
    len: usize,
}

#[repr(C)]
struct RawCoding {
    quality: c_int,
    restart_rows: c_int,
    two_passes: c_int,
    tables: [RawTable; 4],
}

#[repr(C)]
struct RawOutput {
    start: *mut u8,
    room: usize,
    len: usize,
}

const DONE: c_int = 0;
const FULL: c_int = 2;

// SAFETY: the signatures are those in `compress.c`.
unsafe extern "C" {
    fn fp_encoder_new() -> *mut RawCompressor;
    fn fp_encoder_free(encoder: *mut RawCompressor);
    fn fp_encoder_text(encoder: *const RawCompressor) -> *const c_char;
    fn fp_encoder_pixels(
        encoder: *mut RawCompressor,
        coding: *const RawCoding,
        pixels: *const u8,
        width: c_uint,
        height: c_uint,
        components: c_int,
        output: *mut RawOutput,
    ) -> c_int;
    fn fp_encoder_planes(
        encoder: *mut RawCompressor,
        coding: *const RawCoding,
        planes: *const *const u8,
        widths: *const c_uint,
        heights: *const c_uint,
        width: c_uint,
        height: c_uint,
        components: c_int,
        output: *mut RawOutput,
    ) -> c_int;
}

/// The Huffman tables of a JPEG.
#[derive(Clone, Copy, Debug)]
pub enum Codes<'a> {
    /// The given tables, in one pass.
    Tables(&'a Tables),
    /// Tables optimised for this picture, in two passes.
    TwoPasses,
}

/// Settings for encoding a JPEG.
#[derive(Clone, Copy, Debug)]
pub(super) struct JpegCoding<'a> {
    /// 1 to 100.
    pub quality: u8,
    /// A restart marker after every row of blocks.
    pub restart_rows: bool,
    pub codes: Codes<'a>,
}

impl JpegCoding<'_> {
    fn raw(&self) -> RawCoding {
        fn raw<const N: usize>(table: &Table<N>) -> RawTable {
            let values = table.values();
            RawTable { counts: *table.counts(), values: values.as_ptr(), len: values.len() }
        }
        let none = || RawTable { counts: [0; 16], values: ptr::null(), len: 0 };
        let tables = match self.codes {
            Codes::Tables(Tables([luma, chroma])) => {
                [raw(&luma.dc), raw(&luma.ac), raw(&chroma.dc), raw(&chroma.ac)]
            }
            Codes::TwoPasses => [none(), none(), none(), none()],
        };
        RawCoding {
            quality: self.quality.clamp(1, 100).into(),
            restart_rows: self.restart_rows.into(),
            two_passes: matches!(self.codes, Codes::TwoPasses).into(),
            tables,
        }
    }
}

/// First estimate of a file's size: a number of bytes, plus one byte for every so many pixels.
const FIRST_ROOM: (usize, usize) = (4096, 4);

/// Encodes JPEG files one after the other. Each worker has its own.
pub(super) struct Compressor(NonNull<RawCompressor>);

// SAFETY: the struct is not tied to the thread that made it. Every method takes `&mut self`, so two
// threads never use it at once.
unsafe impl Send for Compressor {}

impl Drop for Compressor {
    fn drop(&mut self) {
        // SAFETY: the pointer is live and never used again.
        unsafe { fp_encoder_free(self.0.as_ptr()) }
    }
}

impl Compressor {
    pub fn new() -> Result<Self, Complaint> {
        // SAFETY: no preconditions; null is handled.
        let raw = unsafe { fp_encoder_new() };
        let raw = NonNull::new(raw).ok_or_else(|| Complaint::ours("out of memory"))?;
        Ok(Compressor(raw))
    }

    /// Encodes interleaved RGB or gray as a 4:2:0 or gray JPEG. Afterwards `out` holds only that
    /// file.
    pub fn compress(
        &mut self,
        pixels: &[u8],
        (width, height): (usize, usize),
        gray: bool,
        coding: JpegCoding<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Complaint> {
        let components = if gray { 1 } else { 3 };
        let needed = width.checked_mul(height).and_then(|area| area.checked_mul(components));
        if needed.is_none_or(|needed| needed == 0 || needed > pixels.len()) {
            return Err(Complaint::ours("interleaved buffer and picture size do not agree"));
        }
        let size = (side(width)?, side(height)?);
        let coding = coding.raw();
        self.write((width, height), out, |raw, output| {
            // SAFETY: `raw` is live; the length of `pixels` was checked; the tables of `coding`
            // outlive the call; the C code writes only within `output`.
            unsafe {
                fp_encoder_pixels(
                    raw,
                    &coding,
                    pixels.as_ptr(),
                    size.0,
                    size.1,
                    components as c_int,
                    output,
                )
            }
        })
    }

    /// Encodes 4:2:0 or gray planes as a JPEG of the same subsampling. Afterwards `out` holds only
    /// that file.
    pub fn compress_planar(
        &mut self,
        samples: &[u8],
        layout: Layout,
        coding: JpegCoding<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Complaint> {
        let is_ours = matches!(layout.subsampling, Subsamp::Sub2x2 | Subsamp::Gray);
        if !is_ours || layout.width * layout.height == 0 || samples.len() < layout.len() {
            return Err(Complaint::ours("planar buffer and picture size do not agree"));
        }
        let size = (side(layout.width)?, side(layout.height)?);
        let components = if layout.subsampling == Subsamp::Gray { 1 } else { 3 };
        let (luma, chroma) = (layout.luma(), layout.chroma());
        let (widths, heights) = ([luma.0, chroma.0, chroma.0], [luma.1, chroma.1, chroma.1]);
        let cut = |sides: [usize; 3]| sides.map(|value| side(value).unwrap_or(0));
        let (widths, heights) = (cut(widths), cut(heights));
        let (y, rest) = samples.split_at(luma.0 * luma.1);
        let (cb, cr) = rest.split_at(chroma.0 * chroma.1);
        let planes = [y.as_ptr(), cb.as_ptr(), cr.as_ptr()];
        let coding = coding.raw();
        self.write((layout.width, layout.height), out, |raw, output| {
            // SAFETY: `raw` is live; each plane has width times height samples without padding, as
            // `layout` computes them; the tables of `coding` outlive the call; the C code writes
            // only within `output`.
            unsafe {
                fp_encoder_planes(
                    raw,
                    &coding,
                    planes.as_ptr(),
                    widths.as_ptr(),
                    heights.as_ptr(),
                    size.0,
                    size.1,
                    components,
                    output,
                )
            }
        })
    }

    /// Runs `step` with the whole capacity of `out`, and repeats it with a larger capacity while
    /// the file does not fit.
    fn write(
        &mut self,
        (width, height): (usize, usize),
        out: &mut Vec<u8>,
        step: impl Fn(*mut RawCompressor, &mut RawOutput) -> c_int,
    ) -> Result<(), Complaint> {
        out.clear();
        out.reserve(FIRST_ROOM.0 + width * height / FIRST_ROOM.1);
        let most = most_bytes(width, height);
        loop {
            let room = out.capacity();
            let mut output = RawOutput { start: out.as_mut_ptr(), room, len: 0 };
            match step(self.0.as_ptr(), &mut output) {
                DONE => {
                    // SAFETY: the C code wrote `len` bytes, within the room.
                    unsafe { out.set_len(output.len.min(room)) }
                    return Ok(());
                }
                FULL if room < most => out.reserve((2 * room).min(most)),
                FULL => return Err(Complaint::ours("the file is larger than it can be")),
                _ => return Err(self.complaint()),
            }
        }
    }

    fn complaint(&self) -> Complaint {
        // SAFETY: the text is a C string in the live struct.
        let text = unsafe { CStr::from_ptr(fp_encoder_text(self.0.as_ptr())) };
        Complaint { text: text.to_string_lossy().into_owned() }
    }
}

fn side(value: usize) -> Result<c_uint, Complaint> {
    match c_uint::try_from(value) {
        Ok(value) if value <= 65_535 => Ok(value),
        _ => Err(Complaint::ours("picture size out of range")),
    }
}

/// Upper bound of a file's size in bytes. Each coefficient has a code of at most 16 bits and a
/// value of at most 11, and byte stuffing can double each byte.
fn most_bytes(width: usize, height: usize) -> usize {
    let samples = width.next_multiple_of(16) * height.next_multiple_of(16) * 3 / 2;
    (1 << 16) + samples * 7
}
