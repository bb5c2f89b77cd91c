//! Brings pictures into the form in which they are sent.

use crate::base::{Fault, Reject};
use crate::camera::{Coding, Still};
use crate::config::Config;
use crate::image::{
    Bounds, Decoder, Encoder, Format, Needs, Picture, PixelLayout, RawLayout, Source, Target,
};

/// The form of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Files as they are, and pixels as they are.
    AsFound,
    /// Files as they are, and pixels as JPEG.
    FoundOrJpeg,
    /// A format.
    Coded(Format),
    /// Planes of luma and chroma.
    Planes,
}

/// A picture that is ready to be sent, with its quality; 0 where that is not known.
pub type Ready<'a> = (Source<'a>, i32);

/// Decoder and encoder of one source.
pub struct Coder {
    form: Form,
    quality: u8,
    webp_method: u8,
    decoder: Decoder,
    encoder: Encoder,
    picture: Picture,
    coded: Vec<u8>,
}

impl Coder {
    /// A coder with the quality and the bounds of the configuration.
    ///
    /// # Errors
    /// [`Fault::Unusable`] when the process is out of memory.
    pub fn new(config: &Config, form: Form) -> Result<Coder, Fault> {
        Ok(Coder {
            form,
            quality: config.redis_queue.compression_quality,
            webp_method: config.redis_queue.webp_method.or(2),
            decoder: Decoder::new(Bounds { pixels_max: config.limits.max_pixels })?,
            encoder: Encoder::new()?,
            picture: Picture::default(),
            coded: Vec::new(),
        })
    }

    /// The picture as it is sent.
    ///
    /// # Errors
    /// What decoder or encoder say about it.
    pub fn code<'a>(&'a mut self, still: &'a Still) -> Result<Ready<'a>, Reject> {
        let mut layout = RawLayout::default();
        let format = match still.coding {
            Coding::Rgb | Coding::Gray => Format::Raw,
            Coding::Planes => {
                layout.pixels = Some(PixelLayout::Yuvj420p);
                Format::Raw
            }
            Coding::File => Format::sniff(&still.bytes)
                .ok_or_else(|| Reject::undecodable("not a JPEG, PNG or WebP file"))?,
        };
        let found = Source {
            format,
            width: still.width,
            height: still.height,
            channels: still.channels,
            layout,
            bytes: &still.bytes,
        };
        let wanted = match self.form {
            Form::Coded(wanted) => wanted,
            Form::FoundOrJpeg if format == Format::Raw => Format::Jpeg,
            Form::AsFound | Form::FoundOrJpeg | Form::Planes => format,
        };
        if wanted == format && (layout.pixels.is_none() || self.form != Form::Coded(Format::Raw)) {
            return Ok((found, 0));
        }
        let needs = Needs { planes: false, interleaved: true };
        let planes = Needs { planes: true, interleaved: false };
        let needs = if still.coding == Coding::Planes { planes } else { needs };
        let view = self.decoder.decode(&found, needs, &mut self.picture)?;
        let side = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let (width, height, channels) = (side(view.width), side(view.height), side(view.channels));
        let target =
            Target { format: wanted, quality: self.quality, webp_method: self.webp_method };
        self.encoder.encode(&view, &target, &mut self.coded)?;
        let quality = match wanted {
            Format::Jpeg | Format::Webp => self.quality.into(),
            Format::Png | Format::Raw => 0,
        };
        let layout = RawLayout::default();
        let bytes = &self.coded;
        Ok((Source { format: wanted, width, height, channels, layout, bytes }, quality))
    }
}
