//! Decodes files and raw pixels to views.

use super::exif;
use super::format::{Bounds, Format, Header, InputImage};
use super::jpeg::{Decompressor, JpegColours, JpegOutcome};
use super::layout::{Extent, PixelLayout};
use super::orient::{Orientation, orient_pixels, orient_planes};
use super::probe::{jpeg_header, probe};
use super::samples::{gather, is_direct, own_layout, stretch, widen_chroma, widen_luma};
use super::turbo::{Complaint, Packed, Separator};
use super::{markers, png, webp, yuv};
use crate::base::error::{Fault, Reject};
use crate::frame::{Planes, View};

/// The forms that the caller needs. A view may hold more than was requested, and holds at least
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Full-range 4:2:0 planes, or one plane of gray.
    pub planes: bool,
    /// Interleaved RGB or gray.
    pub interleaved: bool,
}

/// Handling of damaged and rotated pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// Whether a damaged file is decoded as far as possible. If not, it is refused.
    pub accept_damaged: bool,
    /// Whether the EXIF orientation is applied.
    pub rotate_upright: bool,
}

impl Default for Treatment {
    /// Damaged files are refused; the EXIF orientation is applied.
    fn default() -> Self {
        Treatment { accept_damaged: false, rotate_upright: true }
    }
}

/// What the decoder found in a picture besides its pixels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Description of the damage, if missing pixels were made up.
    pub damage: Option<String>,
    /// The EXIF orientation in the file, applied or not.
    pub orientation: Orientation,
    /// Whether the file is a JPEG that libjpeg-turbo read without any warning.
    pub is_clean_jpeg: bool,
}

/// Storage for decoded pixels. Keep it from frame to frame to reuse its memory.
#[derive(Debug, Default)]
pub struct Picture {
    interleaved: Vec<u8>,
    planes: Planes,
}

/// Decodes pictures of every [`Format`]. Each worker has its own.
///
/// In steady state, JPEG, WebP and raw pictures allocate nothing on Rust's heap; libjpeg-turbo and
/// libwebp use the C heap for their tables. PNG pictures allocate inside the `png` crate.
pub struct Decoder {
    bounds: Bounds,
    treatment: Treatment,
    findings: Findings,
    jpeg: Decompressor,
    converter: Separator,
    scratch: Vec<u8>,
}

/// The forms of a picture that were made.
#[derive(Clone, Copy)]
struct Made {
    channels: usize,
    interleaved: bool,
    planes: bool,
    /// Whether the interleaved form is the source itself.
    is_borrowed: bool,
}

impl Made {
    const GRAY: Made = Made { channels: 1, interleaved: true, planes: true, is_borrowed: false };

    fn colour(interleaved: bool, planes: bool) -> Made {
        Made { channels: 3, interleaved, planes, is_borrowed: false }
    }
}

impl Decoder {
    /// A decoder that refuses pictures above `bounds`.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if libjpeg-turbo cannot be initialised: the process is out of memory.
    pub fn new(bounds: Bounds) -> Result<Self, Fault> {
        let fault = |complaint: Complaint| Fault::Unusable(complaint.text);
        Ok(Decoder {
            bounds,
            treatment: Treatment::default(),
            findings: Findings::default(),
            jpeg: Decompressor::new().map_err(fault)?,
            converter: Separator::new().map_err(fault)?,
            scratch: Vec::new(),
        })
    }

    /// Sets the treatment of the following pictures.
    pub fn treat(&mut self, treatment: Treatment) {
        self.treatment = treatment;
    }

    /// What the last call of [`Decoder::decode`] found.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Decodes one picture into `store` and returns a view of it, made upright if the [`Treatment`]
    /// says so. The interleaved form of a raw picture borrows `source` if the layout allows it.
    ///
    /// - JPEG: planes are the file's own, with chroma converted to 4:2:0. If both forms are needed,
    ///   the planes are made from RGB, so that RGB does not depend on whether planes are needed.
    ///   Files that lost samples are refused or, if the treatment says so, accepted. Files with
    ///   more than 100 scans are refused.
    /// - PNG: 8 bits, alpha ignored.
    /// - WebP: alpha ignored; always colour.
    ///
    /// Conversions are full-range BT.601.
    ///
    /// As [`probe`]; `undecodable` for damaged or truncated files; `unsupported_image` if planes
    /// are needed and the picture has more than 65500 pixels a side.
    pub fn decode<'a>(
        &mut self,
        source: &InputImage<'a>,
        needs: Needs,
        store: &'a mut Picture,
    ) -> Result<View<'a>, Reject> {
        self.findings = Findings::default();
        let header = probe(source, &self.bounds)?;
        let size = (header.width as usize, header.height as usize);
        self.findings.orientation = match source.format {
            Format::Jpeg | Format::Raw => Orientation::default(), // see `jpeg`
            Format::Png => exif::of_png(source.bytes),
            Format::Webp => exif::of_webp(source.bytes),
        };
        let mut made = match source.format {
            Format::Jpeg => self.jpeg(source.bytes, needs, store)?,
            Format::Png => self.png(source.bytes, header, self.stored(size, needs), store)?,
            Format::Webp => self.webp(source.bytes, header, self.stored(size, needs), store)?,
            Format::Raw => self.raw(source, header, needs, store)?,
        };
        let mut turned = size;
        if self.rotations() {
            turned = self.orient(size, needs, &mut made, store)?;
        }
        let (width, height) = turned;
        let store: &'a Picture = store;
        let interleaved = match source.format {
            _ if made.is_borrowed => {
                source.bytes.get(..made.channels * width * height).unwrap_or(&[])
            }
            _ if made.channels == 1 => store.planes.samples(),
            _ => store.interleaved.get(..3 * width * height).unwrap_or(&[]),
        };
        Ok(View {
            width,
            height,
            channels: made.channels,
            interleaved: made.interleaved.then_some(interleaved),
            planes: made.planes.then_some(&store.planes),
        })
    }

    /// Whether the current picture must be rotated or mirrored.
    fn rotations(&self) -> bool {
        self.treatment.rotate_upright && !self.findings.orientation.is_upright()
    }

    /// The forms to decode before rotation. If rotated chroma would not cover the same pixels,
    /// planes are made later from the rotated RGB.
    fn stored(&self, size: (usize, usize), needs: Needs) -> Needs {
        if self.rotations() && !self.findings.orientation.keeps_chroma(size) {
            return Needs { planes: false, interleaved: true };
        }
        needs
    }

    /// Rotates every form that was made, and makes the missing ones. Returns the new size.
    fn orient(
        &mut self,
        size: (usize, usize),
        needs: Needs,
        made: &mut Made,
        store: &mut Picture,
    ) -> Result<(usize, usize), Reject> {
        let orientation = self.findings.orientation;
        let turned = orientation.size(size);
        if made.planes {
            orient_planes(&mut store.planes, orientation, &mut self.scratch);
        }
        if made.interleaved && made.channels == 3 {
            let rgb = stretch(&mut store.interleaved, 3 * size.0 * size.1);
            orient_pixels(rgb, size, orientation, &mut self.scratch);
            if needs.planes && !made.planes {
                *made = self.complete(turned, needs, store)?;
            }
        }
        Ok(turned)
    }

    fn jpeg(&mut self, bytes: &[u8], needs: Needs, store: &mut Picture) -> Result<Made, Reject> {
        let (bytes, frame, header) = jpeg_header(bytes)?;
        self.findings.orientation = frame.orientation;
        let needs = self.stored((header.width as usize, header.height as usize), needs);
        let (made, outcome) = self
            .jpeg_into(bytes, &frame, needs, store)
            .map_err(|complaint| Reject::undecodable(complaint.text))?;
        self.findings.is_clean_jpeg = outcome.is_clean;
        self.admit(outcome.loss)?;
        Ok(made)
    }

    /// Records damage, or refuses the picture if the treatment says so.
    fn admit(&mut self, damage: Option<String>) -> Result<(), Reject> {
        match damage {
            Some(damage) if !self.treatment.accept_damaged => Err(Reject::undecodable(damage)),
            damage => {
                self.findings.damage = damage;
                Ok(())
            }
        }
    }

    fn jpeg_into(
        &mut self,
        bytes: &[u8],
        frame: &markers::JpegFrame,
        needs: Needs,
        store: &mut Picture,
    ) -> Result<(Made, JpegOutcome), Complaint> {
        let Picture { interleaved, planes } = store;
        let opened = self.jpeg.open(bytes)?;
        let layout = opened.layout;
        let (width, height) = (layout.width, layout.height);
        if (width, height) != (frame.width.into(), frame.height.into()) {
            return Err(Complaint::ours("JPEG header contradicts itself"));
        }
        let subsampled = layout.subsampling != turbojpeg::Subsamp::Unknown && frame.usual_sampling;
        match opened.colours {
            JpegColours::Gray => {
                planes.reshape(width, height, true);
                Ok((Made::GRAY, opened.planar(planes.samples_mut())?))
            }
            JpegColours::YCbCr if subsampled && !needs.interleaved => {
                let outcome = if is_direct(layout) {
                    planes.reshape(width, height, false);
                    opened.planar(planes.samples_mut())?
                } else {
                    let native = stretch(&mut self.scratch, layout.len());
                    let outcome = opened.planar(native)?;
                    gather(native, layout, planes);
                    outcome
                };
                Ok((Made::colour(false, true), outcome))
            }
            JpegColours::YCbCr | JpegColours::Rgb => {
                let rgb = stretch(interleaved, 3 * width * height);
                let outcome = opened.rgb(rgb)?;
                if needs.planes {
                    let pixels = Packed::rgb(rgb, width);
                    let Decoder { converter, scratch, .. } = self;
                    to_planes(converter, scratch, pixels, (width, height), planes)?;
                }
                Ok((Made::colour(true, needs.planes), outcome))
            }
            JpegColours::Other => Err(Complaint::ours("JPEG of an unknown colour space")),
        }
    }

    fn png(
        &mut self,
        bytes: &[u8],
        header: Header,
        needs: Needs,
        store: &mut Picture,
    ) -> Result<Made, Reject> {
        let head = png::head(bytes).map_err(Reject::undecodable)?;
        let (width, height) = (header.width as usize, header.height as usize);
        let pixels = if head.channels == 1 {
            store.planes.reshape(width, height, true);
            store.planes.samples_mut()
        } else {
            stretch(&mut store.interleaved, 3 * width * height)
        };
        // Pixels that a damaged file lacks must not show an earlier picture.
        if self.treatment.accept_damaged {
            pixels.fill(0);
        }
        let decoded = png::decode(bytes, head, &mut self.scratch, pixels);
        let is_empty = decoded.is_err() && pixels.iter().all(|&value| value == 0);
        match decoded {
            Ok(()) => {}
            Err(text) if is_empty => return Err(Reject::undecodable(text)),
            Err(text) => self.admit(Some(text))?,
        }
        if head.channels == 1 {
            return Ok(Made::GRAY);
        }
        self.complete((width, height), needs, store)
    }

    fn webp(
        &mut self,
        bytes: &[u8],
        header: Header,
        needs: Needs,
        store: &mut Picture,
    ) -> Result<Made, Reject> {
        let features = webp::features(bytes).map_err(Reject::undecodable)?;
        let (width, height) = (header.width as usize, header.height as usize);
        let is_whole = features.is_whole;
        if is_whole && features.lossy && !needs.interleaved {
            store.planes.reshape(width, height, false);
            let [y, cb, cr] = store.planes.split_mut();
            if webp::decode_planes(bytes, width, [&mut *y, &mut *cb, &mut *cr]) {
                widen_luma(y);
                widen_chroma(cb);
                widen_chroma(cr);
                return Ok(Made::colour(false, true));
            }
        }
        let rgb = stretch(&mut store.interleaved, 3 * width * height);
        if !is_whole || !webp::decode_rgb(bytes, width, rgb) {
            let text = if is_whole { "WebP picture is damaged" } else { "WebP file is cut off" };
            if !self.treatment.accept_damaged || !webp::decode_some_rgb(bytes, width, rgb) {
                return Err(Reject::undecodable(text));
            }
            self.admit(Some(text.to_owned()))?;
        }
        self.complete((width, height), needs, store)
    }

    /// Makes planes from the interleaved RGB in `store`, if they are needed.
    fn complete(
        &mut self,
        (width, height): (usize, usize),
        needs: Needs,
        store: &mut Picture,
    ) -> Result<Made, Reject> {
        if needs.planes {
            let rgb = &store.interleaved[..3 * width * height];
            let Decoder { converter, scratch, .. } = self;
            let pixels = Packed::rgb(rgb, width);
            to_planes(converter, scratch, pixels, (width, height), &mut store.planes)
                .map_err(|complaint| Reject::unsupported(complaint.text))?;
        }
        Ok(Made::colour(true, needs.planes))
    }

    fn raw(
        &mut self,
        source: &InputImage<'_>,
        header: Header,
        needs: Needs,
        store: &mut Picture,
    ) -> Result<Made, Reject> {
        let size @ (width, height) = (header.width as usize, header.height as usize);
        let bytes = source.bytes;
        let extent = Extent::new(&source.layout, source.channels, size, bytes.len())
            .map_err(Reject::unsupported)?;
        let [Some(first), ..] = extent.planes else {
            return Err(Reject::unsupported("raw picture without pixels"));
        };
        let is_tight = first.stride == first.used;
        let Picture { interleaved, planes } = store;
        match extent.pixels {
            PixelLayout::Gray => {
                if needs.planes || !is_tight {
                    planes.reshape(width, height, true);
                    yuv::copy_rows(bytes, first, planes.samples_mut());
                }
                let planes = needs.planes || !is_tight;
                Ok(Made { planes, is_borrowed: is_tight, ..Made::GRAY })
            }
            packed if !packed.is_yuv() => {
                let is_borrowed = packed == PixelLayout::Rgb24 && is_tight;
                let makes_planes = needs.planes || !needs.interleaved && !is_borrowed;
                if makes_planes {
                    let pixels = Packed { bytes, stride: first.stride, order: packed };
                    let Decoder { converter, scratch, .. } = self;
                    to_planes(converter, scratch, pixels, size, planes)
                        .map_err(|complaint| Reject::unsupported(complaint.text))?;
                }
                if needs.interleaved && !is_borrowed {
                    let rgb = stretch(interleaved, 3 * width * height);
                    for (y, row_out) in rgb.chunks_exact_mut(3 * width).enumerate() {
                        unpack(packed, first.row(bytes, y), row_out);
                    }
                }
                let is_interleaved = needs.interleaved || is_borrowed;
                Ok(Made { is_borrowed, ..Made::colour(is_interleaved, makes_planes) })
            }
            _ => {
                let makes_planes = needs.planes || !needs.interleaved;
                if makes_planes {
                    yuv::to_planes(bytes, &extent, size, planes);
                }
                if needs.interleaved {
                    let rgb = stretch(interleaved, 3 * width * height);
                    yuv::to_rgb(bytes, &extent, width, rgb);
                }
                Ok(Made::colour(needs.interleaved, makes_planes))
            }
        }
    }
}

/// Converts one row of a packed layout to RGB.
fn unpack(layout: PixelLayout, row: &[u8], out: &mut [u8]) {
    let (size, [red, green, blue]) = match layout {
        PixelLayout::Bgr24 => (3, [2, 1, 0]),
        PixelLayout::Rgba => (4, [0, 1, 2]),
        PixelLayout::Bgra => (4, [2, 1, 0]),
        _ => (3, [0, 1, 2]),
    };
    for (out, pixel) in out.chunks_exact_mut(3).zip(row.chunks_exact(size)) {
        out.copy_from_slice(&[pixel[red], pixel[green], pixel[blue]]);
    }
}

/// Converts interleaved colour to 4:2:0 planes.
fn to_planes(
    converter: &mut Separator,
    scratch: &mut Vec<u8>,
    pixels: Packed<'_>,
    (width, height): (usize, usize),
    planes: &mut Planes,
) -> Result<(), Complaint> {
    let layout = own_layout(width, height, false);
    if is_direct(layout) {
        planes.reshape(width, height, false);
        return converter.make_planar(pixels, layout, planes.samples_mut());
    }
    let padded = stretch(scratch, layout.len());
    converter.make_planar(pixels, layout, padded)?;
    gather(padded, layout, planes);
    Ok(())
}
