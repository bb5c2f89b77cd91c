//! Safe wrapper around the parts of libjpeg-turbo that the `turbojpeg` crate leaves out.
//!
//! The crate converts neither RGB to planes nor planes to RGB. Each call first checks its slices
//! against libjpeg-turbo's own size functions. Callers decide what a complaint means for a frame.
//! Files are decoded in `jpeg.rs` and encoded in `compress.rs`.
//!
//! libjpeg-turbo allocates its row tables on the C heap. This module allocates on Rust's heap only
//! to report an error.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};

use turbojpeg::{Subsamp, raw};

use super::layout::PixelLayout;

/// An error from libjpeg-turbo, or from a check before it is called.
#[derive(Debug)]
pub(super) struct Complaint {
    /// The message.
    pub text: String,
}

impl Complaint {
    pub fn ours(text: &str) -> Self {
        Complaint { text: text.to_owned() }
    }
}

/// Layout of a planar picture: Y, Cb, Cr one after the other, no row padding, luma padded to a
/// multiple of the chroma subsampling. For gray and for 4:2:0 of even size this is exactly
/// `Planes::samples`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    pub subsampling: Subsamp,
}

impl Layout {
    /// Width and height of the luma plane.
    pub fn luma(&self) -> (usize, usize) {
        let (across, down) = self.subsampling.size();
        (self.width.next_multiple_of(across), self.height.next_multiple_of(down))
    }

    /// Width and height of a chroma plane.
    pub fn chroma(&self) -> (usize, usize) {
        if self.subsampling == Subsamp::Gray {
            return (0, 0);
        }
        let (across, down) = self.subsampling.size();
        (self.width.div_ceil(across), self.height.div_ceil(down))
    }

    /// Samples in all planes together.
    pub fn len(&self) -> usize {
        let (luma, chroma) = (self.luma(), self.chroma());
        luma.0 * luma.1 + 2 * chroma.0 * chroma.1
    }

    /// The dimensions as C integers, after checking that `available` samples are enough.
    fn checked(&self, available: usize) -> Result<(c_int, c_int), Complaint> {
        let (width, height) = dimensions(self.width, self.height)?;
        // SAFETY: a pure function of its arguments.
        let needed = unsafe { raw::tj3YUVBufSize(width, 1, height, self.subsampling as c_int) };
        if needed == 0 || needed as usize != self.len() || available < needed as usize {
            return Err(Complaint::ours("planar buffer and picture size do not agree"));
        }
        Ok((width, height))
    }
}

fn dimensions(width: usize, height: usize) -> Result<(c_int, c_int), Complaint> {
    // Rows of RGB must fit as well.
    match (c_int::try_from(width), c_int::try_from(height), c_int::try_from(width * 3)) {
        (Ok(width), Ok(height), Ok(_)) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err(Complaint::ours("picture size out of range")),
    }
}

/// Checks that `available` bytes hold an interleaved picture, and returns its size and pixel format
/// as C integers.
fn packed(
    width: usize,
    height: usize,
    gray: bool,
    available: usize,
) -> Result<(c_int, c_int, c_int), Complaint> {
    let (c_width, c_height) = dimensions(width, height)?;
    let (channels, format) = if gray { (1, raw::TJPF_TJPF_GRAY) } else { (3, raw::TJPF_TJPF_RGB) };
    if width.checked_mul(height).and_then(|n| n.checked_mul(channels)).is_none_or(|n| n > available)
    {
        return Err(Complaint::ours("interleaved buffer and picture size do not agree"));
    }
    Ok((c_width, c_height, format as c_int))
}

/// An owned libjpeg-turbo instance.
struct Handle(raw::tjhandle);

// SAFETY: an instance is not tied to the thread that made it. Every method takes `&mut self`, so
// two threads never use it at once.
unsafe impl Send for Handle {}

impl Handle {
    fn new(kind: raw::TJINIT) -> Result<Self, Complaint> {
        // SAFETY: no preconditions; a null result is handled.
        let handle = unsafe { raw::tj3Init(kind as c_int) };
        if handle.is_null() {
            return Err(Complaint::ours("libjpeg-turbo could not be initialised"));
        }
        Ok(Handle(handle))
    }

    fn set(&mut self, parameter: raw::TJPARAM, value: c_int) -> Result<(), Complaint> {
        // SAFETY: the handle is live.
        let code = unsafe { raw::tj3Set(self.0, parameter as c_int, value) };
        self.verdict(code)
    }

    /// Converts a return code to an error.
    fn verdict(&mut self, code: c_int) -> Result<(), Complaint> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the handle is live; the text is a C string that stays valid until the next call.
        let text = unsafe { CStr::from_ptr(raw::tj3GetErrorStr(self.0)) };
        Err(Complaint { text: text.to_string_lossy().into_owned() })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is live and never used again.
        unsafe { raw::tj3Destroy(self.0) }
    }
}

/// An interleaved colour picture.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub bytes: &'a [u8],
    /// Bytes from row to row. Padding after the last row may be missing.
    pub stride: usize,
    /// One of the RGB family. An alpha channel is ignored.
    pub order: PixelLayout,
}

impl<'a> Packed<'a> {
    /// RGB without padding.
    pub fn rgb(bytes: &'a [u8], width: usize) -> Self {
        Packed { bytes, stride: 3 * width, order: PixelLayout::Rgb24 }
    }

    /// Checks that the bytes hold a picture, and returns its pitch and pixel format as C integers.
    fn checked(&self, width: usize, height: usize) -> Result<(c_int, c_int), Complaint> {
        let format = match self.order {
            PixelLayout::Rgb24 => raw::TJPF_TJPF_RGB,
            PixelLayout::Bgr24 => raw::TJPF_TJPF_BGR,
            PixelLayout::Rgba => raw::TJPF_TJPF_RGBX,
            PixelLayout::Bgra => raw::TJPF_TJPF_BGRX,
            _ => return Err(Complaint::ours("pixels are not interleaved colour")),
        };
        let row = self.order.row_bytes(width);
        let before_last = self.stride.checked_mul(height.saturating_sub(1));
        let is_held = before_last.is_some_and(|len| len <= self.bytes.len().saturating_sub(row));
        match c_int::try_from(self.stride) {
            Ok(pitch) if is_held && self.stride >= row && row <= self.bytes.len() => {
                Ok((pitch, format as c_int))
            }
            _ => Err(Complaint::ours("interleaved buffer and picture size do not agree")),
        }
    }
}

/// A libjpeg-turbo instance that converts interleaved colour to planes.
pub(super) struct Separator(Handle);

impl Separator {
    pub fn new() -> Result<Self, Complaint> {
        Handle::new(raw::TJINIT_TJINIT_COMPRESS).map(Separator)
    }

    /// Converts interleaved colour to planes: full-range BT.601, chroma averaged over 2x2.
    pub fn make_planar(
        &mut self,
        pixels: Packed<'_>,
        layout: Layout,
        out: &mut [u8],
    ) -> Result<(), Complaint> {
        let (width, height) = layout.checked(out.len())?;
        let (pitch, format) = pixels.checked(layout.width, layout.height)?;
        self.0.set(raw::TJPARAM_TJPARAM_SUBSAMP, layout.subsampling as c_int)?;
        // SAFETY: `Packed::checked` compared the pixels with the size, and `Layout::checked` the
        // planes, which have no padding.
        let code = unsafe {
            raw::tj3EncodeYUV8(
                self.0.0,
                pixels.bytes.as_ptr(),
                width,
                pitch,
                height,
                format,
                out.as_mut_ptr(),
                1,
            )
        };
        self.0.verdict(code)
    }
}

/// A libjpeg-turbo instance that converts planes to RGB.
pub(super) struct Unpacker(Handle);

impl Unpacker {
    pub fn new() -> Result<Self, Complaint> {
        Handle::new(raw::TJINIT_TJINIT_DECOMPRESS).map(Unpacker)
    }

    /// Converts planes to interleaved RGB; chroma is repeated, not interpolated.
    pub fn make_packed(
        &mut self,
        samples: &[u8],
        layout: Layout,
        out: &mut [u8],
    ) -> Result<(), Complaint> {
        let (width, height) = layout.checked(samples.len())?;
        let (_, _, format) = packed(layout.width, layout.height, false, out.len())?;
        self.0.set(raw::TJPARAM_TJPARAM_SUBSAMP, layout.subsampling as c_int)?;
        // SAFETY: `checked` compared the planes and `packed` the pixels, both without padding.
        let code = unsafe {
            raw::tj3DecodeYUV8(
                self.0.0,
                samples.as_ptr(),
                1,
                out.as_mut_ptr(),
                width,
                0,
                height,
                format,
            )
        };
        self.0.verdict(code)
    }
}
