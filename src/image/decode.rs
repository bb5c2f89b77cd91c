//! Files and raw pixels to views.

use super::format::{Bounds, Format, Header, Source};
use super::markers;
use super::probe::{jpeg_header, probe};
use super::samples::{gather, is_direct, own_layout, stretch, widen_chroma, widen_luma};
use super::turbo::{Colours, Complaint, Compressor, Decompressor};
use super::{png, webp};
use crate::base::error::{Fault, Reject};
use crate::frame::{Planes, View};

/// The forms the caller will use. A view may hold more than was asked for, and holds one at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Full-range 4:2:0 planes, or one plane of gray.
    pub planes: bool,
    /// Interleaved RGB or gray.
    pub interleaved: bool,
}

/// Where decoded pixels live; keep it from frame to frame, its memory is reused.
#[derive(Debug, Default)]
pub struct Picture {
    interleaved: Vec<u8>,
    planes: Planes,
}

/// Decodes pictures of every [`Format`]. One for each worker.
///
/// In steady state, JPEG, WebP and raw pictures allocate nothing on Rust's heap; libjpeg-turbo and
/// libwebp use the C heap for their tables. PNG pictures allocate inside the `png` crate.
pub struct Decoder {
    bounds: Bounds,
    jpeg: Decompressor,
    converter: Compressor,
    scratch: Vec<u8>,
}

/// Which forms of a picture the store holds.
#[derive(Clone, Copy)]
struct Made {
    channels: usize,
    interleaved: bool,
    planes: bool,
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
            jpeg: Decompressor::new().map_err(fault)?,
            converter: Compressor::new().map_err(fault)?,
            scratch: Vec::new(),
        })
    }

    /// Decodes one picture into `store` and shows it. A raw picture's interleaved form is `source`
    /// itself.
    ///
    /// JPEG: planes are the file's own, chroma brought to 4:2:0 where it is not; damaged and
    /// truncated files are refused, except for stray bytes in front of the end marker, which
    /// some cameras write. Files with more than 100 scans are refused. PNG: 8 bits, alpha ignored.
    /// WebP: alpha ignored; always colour. Conversions are full-range BT.601.
    ///
    /// # Errors
    /// As [`probe`]; `undecodable` for damaged or truncated files; `unsupported_image` if planes
    /// are needed of a picture with more than 65500 pixels a side.
    pub fn decode<'a>(
        &mut self,
        source: &Source<'a>,
        needs: Needs,
        store: &'a mut Picture,
    ) -> Result<View<'a>, Reject> {
        let header = probe(source, &self.bounds)?;
        let made = match source.format {
            Format::Jpeg => self.jpeg(source.bytes, needs, store)?,
            Format::Png => self.png(source.bytes, header, needs, store)?,
            Format::Webp => self.webp(source.bytes, header, needs, store)?,
            Format::Raw => self.raw(source.bytes, header, needs, store)?,
        };
        let (width, height) = (header.width as usize, header.height as usize);
        let store: &'a Picture = store;
        let interleaved = match source.format {
            Format::Raw => source.bytes,
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

    fn jpeg(&mut self, bytes: &[u8], needs: Needs, store: &mut Picture) -> Result<Made, Reject> {
        let (frame, _) = jpeg_header(bytes)?;
        if !frame.tables_complete {
            // Tables that another file left behind must not help this one.
            self.renew();
        }
        self.jpeg_into(bytes, &frame, needs, store).map_err(|complaint| {
            self.renew();
            Reject::undecodable(complaint.text)
        })
    }

    /// A fresh libjpeg-turbo instance, if there is memory for one.
    fn renew(&mut self) {
        if let Ok(fresh) = Decompressor::new() {
            self.jpeg = fresh;
        }
    }

    fn jpeg_into(
        &mut self,
        bytes: &[u8],
        frame: &markers::Frame,
        needs: Needs,
        store: &mut Picture,
    ) -> Result<Made, Complaint> {
        let Picture { interleaved, planes } = store;
        let opened = self.jpeg.open(bytes)?;
        let layout = opened.layout;
        let (width, height) = (layout.width, layout.height);
        if (width, height) != (frame.width.into(), frame.height.into()) {
            return Err(Complaint::ours("JPEG header contradicts itself"));
        }
        let subsampled = layout.subsampling != turbojpeg::Subsamp::Unknown && frame.usual_sampling;
        match opened.colours {
            Colours::Gray => {
                planes.reshape(width, height, true);
                tolerate(opened.planar(planes.samples_mut()), frame)?;
                Ok(Made { channels: 1, interleaved: true, planes: true })
            }
            Colours::YCbCr if subsampled && (needs.planes || !needs.interleaved) => {
                let samples: &[u8] = if is_direct(layout) {
                    planes.reshape(width, height, false);
                    tolerate(opened.planar(planes.samples_mut()), frame)?;
                    planes.samples()
                } else {
                    let native = stretch(&mut self.scratch, layout.len());
                    tolerate(opened.planar(native), frame)?;
                    gather(native, layout, planes);
                    native
                };
                if needs.interleaved {
                    let rgb = stretch(interleaved, 3 * width * height);
                    self.jpeg.make_packed(samples, layout, rgb)?;
                }
                Ok(Made { channels: 3, interleaved: needs.interleaved, planes: true })
            }
            Colours::YCbCr | Colours::Rgb => {
                let rgb = stretch(interleaved, 3 * width * height);
                tolerate(opened.rgb(rgb), frame)?;
                if needs.planes {
                    to_planes(&mut self.converter, &mut self.scratch, rgb, width, height, planes)?;
                }
                Ok(Made { channels: 3, interleaved: true, planes: needs.planes })
            }
            Colours::Other => Err(Complaint::ours("JPEG of an unknown colour space")),
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
        if head.channels == 1 {
            store.planes.reshape(width, height, true);
            png::decode(bytes, head, &mut self.scratch, store.planes.samples_mut())
                .map_err(Reject::undecodable)?;
            return Ok(Made { channels: 1, interleaved: true, planes: true });
        }
        let rgb = stretch(&mut store.interleaved, 3 * width * height);
        png::decode(bytes, head, &mut self.scratch, rgb).map_err(Reject::undecodable)?;
        self.complete(header, needs, store)
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
        let damaged = || Reject::undecodable("WebP picture is damaged");
        if features.lossy && !needs.interleaved {
            store.planes.reshape(width, height, false);
            let [y, cb, cr] = store.planes.split_mut();
            if !webp::decode_planes(bytes, width, [&mut *y, &mut *cb, &mut *cr]) {
                return Err(damaged());
            }
            widen_luma(y);
            widen_chroma(cb);
            widen_chroma(cr);
            return Ok(Made { channels: 3, interleaved: false, planes: true });
        }
        let rgb = stretch(&mut store.interleaved, 3 * width * height);
        if !webp::decode_rgb(bytes, width, rgb) {
            return Err(damaged());
        }
        self.complete(header, needs, store)
    }

    /// Makes planes of the interleaved RGB in `store`, if they are needed.
    fn complete(
        &mut self,
        header: Header,
        needs: Needs,
        store: &mut Picture,
    ) -> Result<Made, Reject> {
        let (width, height) = (header.width as usize, header.height as usize);
        if needs.planes {
            let rgb = &store.interleaved[..3 * width * height];
            let Decoder { converter, scratch, .. } = self;
            to_planes(converter, scratch, rgb, width, height, &mut store.planes)
                .map_err(|complaint| Reject::unsupported(complaint.text))?;
        }
        Ok(Made { channels: 3, interleaved: true, planes: needs.planes })
    }

    fn raw(
        &mut self,
        bytes: &[u8],
        header: Header,
        needs: Needs,
        store: &mut Picture,
    ) -> Result<Made, Reject> {
        let (width, height) = (header.width as usize, header.height as usize);
        if needs.planes && header.channels == 1 {
            store.planes.reshape(width, height, true);
            store.planes.samples_mut().copy_from_slice(bytes);
        } else if needs.planes {
            let Decoder { converter, scratch, .. } = self;
            to_planes(converter, scratch, bytes, width, height, &mut store.planes)
                .map_err(|complaint| Reject::unsupported(complaint.text))?;
        }
        Ok(Made { channels: header.channels as usize, interleaved: true, planes: needs.planes })
    }
}

/// Interleaved RGB to 4:2:0 planes.
fn to_planes(
    converter: &mut Compressor,
    scratch: &mut Vec<u8>,
    rgb: &[u8],
    width: usize,
    height: usize,
    planes: &mut Planes,
) -> Result<(), Complaint> {
    let layout = own_layout(width, height, false);
    if is_direct(layout) {
        planes.reshape(width, height, false);
        return converter.make_planar(rgb, layout, planes.samples_mut());
    }
    let padded = stretch(scratch, layout.len());
    converter.make_planar(rgb, layout, padded)?;
    gather(padded, layout, planes);
    Ok(())
}

/// Lets one warning pass: bytes between the last block and the end marker, which some cameras
/// write. libjpeg-turbo keeps the first warning only; without restart markers this one can only
/// come when every block has been decoded, so it hides no other.
fn tolerate(result: Result<(), Complaint>, frame: &markers::Frame) -> Result<(), Complaint> {
    match result {
        Err(complaint)
            if complaint.is_warning
                && !frame.restarts
                && complaint.text.ends_with("extraneous bytes before marker 0xd9") =>
        {
            Ok(())
        }
        other => other,
    }
}
