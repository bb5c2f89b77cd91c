//! Safe wrapper around `jpeg.c`, the decoder of JPEG files.
//!
//! It uses libjpeg-turbo's libjpeg API, which reports every warning with its code; the TurboJPEG
//! API keeps only the first. A harmless warning is counted. A warning that means lost samples marks
//! the picture as damaged. Each picture has its own libjpeg object, so that no table of one file
//! leaks into the next.
//!
//! libjpeg-turbo allocates on the C heap. This module allocates on Rust's heap only to report an
//! error.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr::{self, NonNull};

use turbojpeg::Subsamp;
use turbojpeg_sys as _;

use super::turbo::{Complaint, Layout};

/// Progressive files with more scans are refused. Cameras and editors write about ten, and every
/// further scan is another pass over the whole picture.
const SCANS_MAX: c_uint = 100;

/// Opaque handle of the C struct.
#[repr(C)]
struct RawDecompressor {
    _private: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawHeader {
    width: c_uint,
    height: c_uint,
    colours: c_uint,
    across: c_uint,
    down: c_uint,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawOutcome {
    warnings: c_uint,
    losses: c_uint,
    consumed: usize,
    scans: c_uint,
}

// SAFETY: the signatures are those in `jpeg.c`.
unsafe extern "C" {
    fn fp_decoder_new(scans_max: c_uint) -> *mut RawDecompressor;
    fn fp_decoder_free(decoder: *mut RawDecompressor);
    fn fp_decoder_close(decoder: *mut RawDecompressor);
    fn fp_decoder_text(decoder: *const RawDecompressor) -> *const c_char;
    fn fp_decoder_open(
        decoder: *mut RawDecompressor,
        bytes: *const u8,
        len: usize,
        header: *mut RawHeader,
    ) -> c_int;
    fn fp_decoder_planes(
        decoder: *mut RawDecompressor,
        planes: *const *mut u8,
        widths: *const c_uint,
        heights: *const c_uint,
        count: c_uint,
        outcome: *mut RawOutcome,
    ) -> c_int;
    fn fp_decoder_pixels(
        decoder: *mut RawDecompressor,
        pixels: *mut u8,
        outcome: *mut RawOutcome,
    ) -> c_int;
}

/// Values of libjpeg's `J_COLOR_SPACE`.
const JCS_GRAYSCALE: c_uint = 1;
const JCS_RGB: c_uint = 2;
const JCS_YCBCR: c_uint = 3;

/// Colour space of a JPEG as determined by libjpeg-turbo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JpegColours {
    YCbCr,
    Rgb,
    Gray,
    /// Four channels, or an unknown colour space.
    Other,
}

/// Result of a picture that was decoded to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JpegOutcome {
    /// The first loss as libjpeg-turbo describes it, if samples were lost.
    pub loss: Option<String>,
    /// Whether there was no warning at all, not even a harmless one.
    pub is_clean: bool,
}

/// Decodes JPEG files one after the other. Each worker has its own.
pub(super) struct Decompressor(NonNull<RawDecompressor>);

// SAFETY: the struct is not tied to the thread that made it. Every method takes `&mut self`, so two
// threads never use it at once.
unsafe impl Send for Decompressor {}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: the pointer is live and never used again.
        unsafe { fp_decoder_free(self.0.as_ptr()) }
    }
}

impl Decompressor {
    pub fn new() -> Result<Self, Complaint> {
        // SAFETY: no preconditions; null is handled.
        let raw = unsafe { fp_decoder_new(SCANS_MAX) };
        let raw = NonNull::new(raw).ok_or_else(|| Complaint::ours("out of memory"))?;
        Ok(Decompressor(raw))
    }

    /// Reads the header.
    pub fn open<'a>(&'a mut self, bytes: &'a [u8]) -> Result<OpenedJpeg<'a>, Complaint> {
        let mut header = RawHeader::default();
        // SAFETY: pointer and length are of one slice, which outlives `OpenedJpeg`; dropping it
        // closes the file.
        let code =
            unsafe { fp_decoder_open(self.0.as_ptr(), bytes.as_ptr(), bytes.len(), &mut header) };
        if code != 0 {
            return Err(self.complaint());
        }
        let colours = match header.colours {
            JCS_GRAYSCALE => JpegColours::Gray,
            JCS_RGB => JpegColours::Rgb,
            JCS_YCBCR => JpegColours::YCbCr,
            _ => JpegColours::Other,
        };
        let subsampling = match (colours, header.across, header.down) {
            (JpegColours::Gray, ..) => Subsamp::Gray,
            (_, 1, 1) => Subsamp::None,
            (_, 2, 1) => Subsamp::Sub2x1,
            (_, 2, 2) => Subsamp::Sub2x2,
            (_, 1, 2) => Subsamp::Sub1x2,
            (_, 4, 1) => Subsamp::Sub4x1,
            (_, 1, 4) => Subsamp::Sub1x4,
            _ => Subsamp::Unknown,
        };
        let layout =
            Layout { width: header.width as usize, height: header.height as usize, subsampling };
        Ok(OpenedJpeg { decompressor: self, bytes, layout, colours })
    }

    fn complaint(&self) -> Complaint {
        // SAFETY: the text is a C string in the live struct.
        let text = unsafe { CStr::from_ptr(fp_decoder_text(self.0.as_ptr())) };
        Complaint { text: text.to_string_lossy().into_owned() }
    }
}

/// A JPEG whose header has been read. It keeps a reference to the bytes it was read from, so that
/// the sizes checked are the sizes decoded.
pub(super) struct OpenedJpeg<'a> {
    decompressor: &'a mut Decompressor,
    bytes: &'a [u8],
    pub layout: Layout,
    pub colours: JpegColours,
}

impl Drop for OpenedJpeg<'_> {
    fn drop(&mut self) {
        // SAFETY: the pointer is live; closing twice does nothing.
        unsafe { fp_decoder_close(self.decompressor.0.as_ptr()) }
    }
}

impl OpenedJpeg<'_> {
    /// Decodes to planes in the file's own subsampling. The caller must have checked that every
    /// chroma component has one block per unit.
    pub fn planar(mut self, out: &mut [u8]) -> Result<JpegOutcome, Complaint> {
        let layout = self.layout;
        if layout.subsampling == Subsamp::Unknown || out.len() != layout.len() {
            return Err(Complaint::ours("planar buffer and picture size do not agree"));
        }
        self.decode(|raw, outcome| {
            let (luma, chroma) = (layout.luma(), layout.chroma());
            let count = if layout.subsampling == Subsamp::Gray { 1 } else { 3 };
            let sizes = [luma, chroma, chroma];
            let side = |value: usize| c_uint::try_from(value).unwrap_or(0);
            let (widths, heights) =
                (sizes.map(|size| side(size.0)), sizes.map(|size| side(size.1)));
            let mut rest = &mut *out;
            let mut planes = [ptr::null_mut(); 3];
            for (plane, (width, height)) in planes.iter_mut().zip(sizes).take(count) {
                let (own, after) = std::mem::take(&mut rest).split_at_mut(width * height);
                *plane = own.as_mut_ptr();
                rest = after;
            }
            // SAFETY: `raw` has an open file; each plane has `width * height` bytes, and the C code
            // writes no further.
            unsafe {
                fp_decoder_planes(
                    raw,
                    planes.as_ptr(),
                    widths.as_ptr(),
                    heights.as_ptr(),
                    count as c_uint,
                    outcome,
                )
            }
        })
    }

    /// Decodes to interleaved RGB with interpolated chroma.
    pub fn rgb(mut self, out: &mut [u8]) -> Result<JpegOutcome, Complaint> {
        if out.len() != 3 * self.layout.width * self.layout.height {
            return Err(Complaint::ours("interleaved buffer and picture size do not agree"));
        }
        self.decode(|raw, outcome| {
            // SAFETY: `raw` has an open file of the size that `open` returned, and `out` has room
            // for its pixels.
            unsafe { fp_decoder_pixels(raw, out.as_mut_ptr(), outcome) }
        })
    }

    /// Runs `step`. If data after the last scan made it fail, runs it once more without that data.
    /// A file of several scans is read to its end marker before the first sample is decoded.
    /// Without an end marker, the bytes in its place are read as well.
    fn decode(
        &mut self,
        mut step: impl FnMut(*mut RawDecompressor, &mut RawOutcome) -> c_int,
    ) -> Result<JpegOutcome, Complaint> {
        let raw = self.decompressor.0.as_ptr();
        let mut outcome = RawOutcome::default();
        let mut code = step(raw, &mut outcome);
        // The offending marker has two bytes.
        let usable = outcome.consumed.checked_sub(2).and_then(|end| self.bytes.get(..end));
        if let (true, 1.., Some(usable)) = (code != 0, outcome.scans, usable) {
            let complaint = self.decompressor.complaint();
            let mut header = RawHeader::default();
            // SAFETY: a part of the slice that `OpenedJpeg` holds on to.
            let opened =
                unsafe { fp_decoder_open(raw, usable.as_ptr(), usable.len(), &mut header) };
            let same = (header.width as usize, header.height as usize)
                == (self.layout.width, self.layout.height);
            if opened != 0 || !same {
                return Err(complaint);
            }
            code = step(raw, &mut outcome);
        }
        if code != 0 {
            return Err(self.decompressor.complaint());
        }
        let loss = (outcome.losses > 0).then(|| self.decompressor.complaint().text);
        Ok(JpegOutcome { loss, is_clean: outcome.warnings == 0 && outcome.losses == 0 })
    }
}
