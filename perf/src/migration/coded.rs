//! The frames of a run, encoded once: the same pictures for every system.

use base64_simd::STANDARD;
use framepress::internals::frame::View;
use framepress::internals::image::{Encoder, Format, PngLevel, Target};
use framepress::internals::instruments::Size;
use serde::Serialize;

use crate::Outcome;
use crate::load::files::{self, Kind, Studio};

/// Quality of JPEG frames as cameras send them.
const CAMERA_QUALITY: u8 = 90;

/// How a camera encodes its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameCoding {
    Jpeg,
    Png,
}

impl FrameCoding {
    pub fn name(self) -> &'static str {
        match self {
            FrameCoding::Jpeg => "JPEG",
            FrameCoding::Png => "PNG",
        }
    }
}

/// Files of one size and coding, sent over and over.
pub struct CodedFrames {
    pub size: Size,
    pub coding: FrameCoding,
    /// Unchanged.
    pub files: Vec<Vec<u8>>,
    /// In base64.
    pub texts: Vec<String>,
}

impl CodedFrames {
    pub fn of(studio: &Studio, size: Size, coding: FrameCoding) -> Outcome<CodedFrames> {
        let mut encoder = Encoder::new()?;
        encoder.set_png_level(PngLevel::Balanced);
        let format = if coding == FrameCoding::Jpeg { Format::Jpeg } else { Format::Png };
        let target = Target { format, quality: CAMERA_QUALITY, webp_method: 0 };
        let mut coded = Vec::new();
        for pixels in files::load(&studio.frames(size, Kind::Raw)?)? {
            let view = View {
                width: size.width as usize,
                height: size.height as usize,
                channels: 3,
                interleaved: Some(&pixels),
                planes: None,
            };
            let mut file = Vec::new();
            encoder.encode(&view, &target, &mut file).map_err(|reject| reject.to_string())?;
            coded.push(file);
        }
        let texts = coded.iter().map(|file| STANDARD.encode_to_string(file)).collect();
        Ok(CodedFrames { size, coding, files: coded, texts })
    }

    /// Mean size of a file, in bytes.
    pub fn bytes(&self) -> f64 {
        self.files.iter().map(Vec::len).sum::<usize>() as f64 / self.files.len().max(1) as f64
    }
}
