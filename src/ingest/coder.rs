//! Converts pictures to the form in which they are sent.

use crate::base::{Fault, Reject};
use crate::camera::{Coding, Still};
use crate::config::Config;
use crate::image::{
    Bounds, Decoder, Encoder, Format, InputImage, Needs, Picture, RawLayout, Target,
};

/// Form in which pictures are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Files and pixels unchanged.
    AsFound,
    /// Files unchanged, pixels as JPEG.
    FoundOrJpeg,
    /// A given format.
    Coded(Format),
}

/// A picture ready to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    /// The picture.
    pub picture: InputImage<'a>,
    /// Its quality; 0 if not known.
    pub quality: i32,
    /// Whether its bytes are those from the source.
    pub is_found: bool,
}

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
    /// A coder with the quality and the limits of the configuration.
    ///
    /// [`Fault::Unusable`] if the process is out of memory.
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

    /// Converts a picture to the form in which it is sent.
    ///
    /// # Errors
    /// The error of the decoder or encoder.
    pub fn code<'a>(&'a mut self, still: &'a Still) -> Result<Ready<'a>, Reject> {
        let found = found(still)?;
        let InputImage { format, layout, .. } = found;
        let wanted = match self.form {
            Form::Coded(wanted) => wanted,
            Form::FoundOrJpeg if format == Format::Raw => Format::Jpeg,
            Form::AsFound | Form::FoundOrJpeg => format,
        };
        if wanted == format && (layout.pixels.is_none() || self.form != Form::Coded(Format::Raw)) {
            return Ok(Ready { picture: found, quality: 0, is_found: true });
        }
        self.encode(still, &found, wanted)
    }

    /// Encodes a picture as JPEG for display.
    ///
    /// # Errors
    /// The error of the decoder or encoder.
    pub fn preview<'a>(&'a mut self, still: &'a Still) -> Result<Ready<'a>, Reject> {
        self.encode(still, &found(still)?, Format::Jpeg)
    }

    fn encode<'a>(
        &'a mut self,
        still: &Still,
        found: &InputImage<'_>,
        wanted: Format,
    ) -> Result<Ready<'a>, Reject> {
        let needs = Needs { planes: false, interleaved: true };
        let planes = Needs { planes: true, interleaved: false };
        let needs = if still.coding == Coding::Planes { planes } else { needs };
        let view = self.decoder.decode(found, needs, &mut self.picture)?;
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
        let picture = InputImage { format: wanted, width, height, channels, layout, bytes };
        Ok(Ready { picture, quality, is_found: false })
    }
}

/// The picture of a still.
fn found(still: &Still) -> Result<InputImage<'_>, Reject> {
    let (format, layout) = match still.coding {
        Coding::Rgb | Coding::Gray => (Format::Raw, RawLayout::default()),
        Coding::Planes => (Format::Raw, still.layout),
        Coding::File => {
            let format = Format::sniff(&still.bytes)
                .ok_or_else(|| Reject::undecodable("not a JPEG, PNG or WebP file"))?;
            (format, RawLayout::default())
        }
    };
    let Still { width, height, channels, ref bytes, .. } = *still;
    Ok(InputImage { format, width, height, channels, layout, bytes })
}
