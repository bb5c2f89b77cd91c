//! Encodes views as files.

use super::boxed::{Bars, Boxer, keeps_its_rows};
use super::compress::{Codes, Compressor, JpegCoding};
use super::format::Format;
use super::huffman::{STANDARD, Tables};
use super::png::PngLevel;
use super::probe::JPEG_SIDE_MAX;
use super::samples::{is_direct, narrow_chroma, narrow_luma, own_layout, pad, stretch};
use super::turbo::{Complaint, Unpacker};
use super::{png, webp};
use crate::base::error::{Fault, Reject};
use crate::frame::{Planes, View};

/// Output format and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The format to write.
    pub format: Format,
    /// 1 (small) to 100 (good), for JPEG and WebP.
    pub quality: u8,
    /// 0 (fast) to 6 (small), for WebP.
    pub webp_method: u8,
}

/// Encodes pictures in every [`Format`]. Each worker has its own.
///
/// In steady state, JPEG, WebP and raw output allocate nothing on Rust's heap as long as the
/// caller's buffer is large enough; libjpeg-turbo and libwebp use the C heap for their tables. PNG
/// output allocates inside the `png` crate.
pub struct Encoder {
    compressor: Compressor,
    converter: Unpacker,
    boxer: Boxer,
    /// Planes padded or converted for a library.
    shaped: Vec<u8>,
    interleaved: Vec<u8>,
    png_level: PngLevel,
}

impl Encoder {
    /// An encoder without any scratch memory yet.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if libjpeg-turbo cannot be initialised: the process is out of memory.
    pub fn new() -> Result<Self, Fault> {
        let fault = |complaint: Complaint| Fault::Unusable(complaint.text);
        Ok(Encoder {
            compressor: Compressor::new().map_err(fault)?,
            converter: Unpacker::new().map_err(fault)?,
            boxer: Boxer::default(),
            shaped: Vec::new(),
            interleaved: Vec::new(),
            png_level: PngLevel::default(),
        })
    }

    /// Sets the compression level of the following PNG files. The initial level is fast.
    pub fn set_png_level(&mut self, level: PngLevel) {
        self.png_level = level;
    }

    /// The current compression level of PNG files.
    pub fn png_level(&self) -> PngLevel {
        self.png_level
    }

    /// Encodes `view` into `out`. `out` is cleared first and afterwards holds exactly the file.
    ///
    /// JPEG (4:2:0 or gray, baseline) and WebP are made from the planes if the view has them, else
    /// from the interleaved form. PNG and raw prefer the interleaved form. WebP has no gray: a gray
    /// view becomes a colour file without colour. Planes are full-range BT.601; they are converted
    /// to limited range for WebP. A JPEG has the standard Huffman tables.
    ///
    /// `encode_failed` if the view contradicts itself or if the library refuses it. Also if a side
    /// is above 65500 pixels (JPEG, and every conversion from planes to RGB) or 16383 pixels
    /// (WebP).
    pub fn encode(
        &mut self,
        view: &View<'_>,
        target: &Target,
        out: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        self.encode_with(view, target, Codes::Tables(&STANDARD), out)
    }

    /// As [`Encoder::encode`], but a JPEG has the given Huffman tables.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_with(
        &mut self,
        view: &View<'_>,
        target: &Target,
        codes: Codes<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        out.clear();
        check(view)?;
        match target.format {
            Format::Jpeg => {
                let coding = JpegCoding { quality: target.quality, restart_rows: false, codes };
                self.jpeg(view, coding, out)
            }
            Format::Webp => self.webp(view, target, out),
            Format::Png => {
                let size = (view.width, view.height);
                let pixels = interleaved(
                    view,
                    &mut self.converter,
                    &mut self.shaped,
                    &mut self.interleaved,
                )?;
                let (gray, level) = (view.channels == 1, self.png_level);
                png::encode(pixels, size, gray, level, out).map_err(Reject::encode_failed)
            }
            Format::Raw => {
                let pixels = interleaved(
                    view,
                    &mut self.converter,
                    &mut self.shaped,
                    &mut self.interleaved,
                )?;
                out.extend_from_slice(pixels);
                Ok(())
            }
        }
    }

    /// Encodes `view` twice as JPEG with the given Huffman tables: as it is into `out`, and
    /// letterboxed into `boxed`. The letterbox is a square of `size` pixels with bars of the gray
    /// `padding`. Works only for views that [`keep their rows`](super::keeps_its_rows).
    ///
    /// The files have restart markers. Their pictures are bit-identical to those of
    /// [`Encoder::encode`] and of [`Scaler::letterbox`](super::Scaler::letterbox).
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_boxed(
        &mut self,
        view: &View<'_>,
        (quality, tables): (u8, &Tables),
        (size, padding): (usize, u8),
        out: &mut Vec<u8>,
        boxed: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        out.clear();
        boxed.clear();
        check(view)?;
        if !keeps_its_rows(view, size) {
            return Err(Reject::encode_failed(
                "the letterboxed picture is not made of whole rows of this one",
            ));
        }
        let codes = Codes::Tables(tables);
        self.jpeg(view, JpegCoding { quality, restart_rows: true, codes }, out)?;
        let bars = Bars { size, padding, gray: view.channels == 1, quality };
        let (boxer, compressor) = (&mut self.boxer, &mut self.compressor);
        boxer.put_between(bars, tables, out, view.height, compressor, boxed).map_err(refused)
    }

    fn jpeg(
        &mut self,
        view: &View<'_>,
        coding: JpegCoding<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        let (width, height, gray) = (view.width, view.height, view.channels == 1);
        if width.max(height) > JPEG_SIDE_MAX {
            return Err(Reject::encode_failed(format!(
                "{width}x{height} is more than the 65500 pixels a side of a JPEG"
            )));
        }
        let coded = if let Some(planes) = view.planes {
            let layout = own_layout(width, height, gray);
            let samples = if is_direct(layout) {
                planes.samples()
            } else {
                pad(planes, &mut self.shaped);
                &self.shaped[..layout.len()]
            };
            self.compressor.compress_planar(samples, layout, coding, out)
        } else {
            let pixels = view.interleaved.unwrap_or(&[]);
            self.compressor.compress(pixels, (width, height), gray, coding, out)
        };
        coded.map_err(refused)
    }

    fn webp(&mut self, view: &View<'_>, target: &Target, out: &mut Vec<u8>) -> Result<(), Reject> {
        let size = (view.width, view.height);
        if view.width.max(view.height) > webp::SIDE_MAX {
            return Err(Reject::encode_failed(format!(
                "{}x{} is more than the 16383 pixels a side of a WebP picture",
                view.width, view.height
            )));
        }
        let pixels = match (view.planes, view.interleaved) {
            (None, Some(rgb)) if view.channels == 3 => webp::WebpPixels::Rgb(rgb),
            (planes, gray) => webp::WebpPixels::Planes(narrowed(
                size,
                planes,
                gray.unwrap_or(&[]),
                &mut self.shaped,
            )),
        };
        webp::encode(pixels, size, target.quality, target.webp_method, out)
            .map_err(Reject::encode_failed)
    }
}

fn refused(complaint: Complaint) -> Reject {
    Reject::encode_failed(complaint.text)
}

/// Checks that the sizes within a view agree; all code below relies on them.
fn check(view: &View<'_>) -> Result<(), Reject> {
    let &View { width, height, channels, interleaved, planes } = view;
    let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
    let sound = matches!(channels, 1 | 3)
        && bytes.is_some_and(|bytes| bytes > 0)
        && (interleaved.is_some() || planes.is_some())
        && interleaved.is_none_or(|pixels| Some(pixels.len()) == bytes)
        && planes.is_none_or(|planes| {
            (planes.width(), planes.height()) == (width, height)
                && planes.is_gray() == (channels == 1)
        });
    if sound { Ok(()) } else { Err(Reject::encode_failed("the view contradicts itself")) }
}

/// Converts the planes, or an interleaved gray picture, to limited-range Y, U, V.
fn narrowed<'a>(
    (width, height): (usize, usize),
    planes: Option<&Planes>,
    gray: &[u8],
    out: &'a mut Vec<u8>,
) -> &'a [u8] {
    let luma_len = width * height;
    let chroma_len = width.div_ceil(2) * height.div_ceil(2);
    let out = stretch(out, luma_len + 2 * chroma_len);
    let (luma_out, chroma_out) = out.split_at_mut(luma_len);
    narrow_luma(planes.map_or(gray, |planes| planes.luma().samples), luma_out);
    match planes.filter(|planes| !planes.is_gray()) {
        Some(planes) => narrow_chroma(&planes.samples()[luma_len..], chroma_out),
        None => chroma_out.fill(128),
    }
    out
}

/// The interleaved form of a view, converted from the planes if it has none.
fn interleaved<'a>(
    view: &View<'a>,
    converter: &mut Unpacker,
    shaped: &mut Vec<u8>,
    out: &'a mut Vec<u8>,
) -> Result<&'a [u8], Reject> {
    match (view.interleaved, view.planes) {
        (Some(pixels), _) => Ok(pixels),
        (None, Some(planes)) if planes.is_gray() => Ok(planes.samples()),
        (None, Some(planes)) => {
            let layout = own_layout(view.width, view.height, false);
            let samples = if is_direct(layout) {
                planes.samples()
            } else {
                pad(planes, shaped);
                &shaped[..layout.len()]
            };
            let rgb = stretch(out, 3 * view.width * view.height);
            converter.make_packed(samples, layout, rgb).map_err(refused)?;
            Ok(rgb)
        }
        (None, None) => Err(Reject::encode_failed("the view is empty")),
    }
}
