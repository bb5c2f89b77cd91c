//! Memory layouts of raw pictures, with FFmpeg's names.
//!
//! Packed RGB layouts become interleaved RGB. YUV layouts become the engine's planes: 4:2:0, full
//! range, BT.601. So YUV input is not converted to RGB for a JPEG. Lossless output converts the
//! original samples directly to RGB.

/// Order of the samples in a raw picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelLayout {
    /// R, G, B.
    Rgb24,
    /// B, G, R.
    Bgr24,
    /// R, G, B and a byte that is ignored.
    Rgba,
    /// B, G, R and a byte that is ignored.
    Bgra,
    /// Only luma.
    Gray,
    /// Planes of luma, Cb and Cr, one behind the other. Chroma has half of the columns and rows, odd
    /// numbers rounded up. Limited range by default.
    Yuv420p,
    /// As [`PixelLayout::Yuv420p`]; full range by default.
    Yuvj420p,
    /// A plane of luma, then one of alternating Cb and Cr, halved in both directions; limited range
    /// by default.
    Nv12,
    /// Y, Cb, Y, Cr for two pixels; limited range by default.
    Yuyv422,
}

/// Range of luma and chroma values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// 16 to 235 (chroma 16 to 240), as in video.
    Limited,
    /// 0 to 255, as in JPEG.
    Full,
}

/// Conversion matrix between luma, chroma and RGB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// ITU-R BT.601, as in JPEG. The default.
    #[default]
    Bt601,
    /// ITU-R BT.709.
    Bt709,
}

/// The layout of a raw picture. The default is RGB or gray, depending on the channels, without
/// padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawLayout {
    /// Pixel layout; `None` for `raw`, which is [`PixelLayout::Rgb24`] with 3 channels and
    /// [`PixelLayout::Gray`] with 1.
    pub pixels: Option<PixelLayout>,
    /// Bytes from one row of the first plane to the next, at least those of a row; 0 for no padding. Rows of chroma planes have
    /// half of it, of [`PixelLayout::Nv12`] as much.
    pub row_stride: u32,
    /// Range; `None` for the default of the layout.
    pub range: Option<Range>,
    /// Matrix of YUV layouts.
    pub matrix: Matrix,
}

impl PixelLayout {
    /// Every layout.
    pub const ALL: [PixelLayout; 9] = [
        PixelLayout::Rgb24,
        PixelLayout::Bgr24,
        PixelLayout::Rgba,
        PixelLayout::Bgra,
        PixelLayout::Gray,
        PixelLayout::Yuv420p,
        PixelLayout::Yuvj420p,
        PixelLayout::Nv12,
        PixelLayout::Yuyv422,
    ];

    /// FFmpeg's name, as in `ImageData.compression_format`.
    pub const fn name(self) -> &'static str {
        match self {
            PixelLayout::Rgb24 => "rgb24",
            PixelLayout::Bgr24 => "bgr24",
            PixelLayout::Rgba => "rgba",
            PixelLayout::Bgra => "bgra",
            PixelLayout::Gray => "gray",
            PixelLayout::Yuv420p => "yuv420p",
            PixelLayout::Yuvj420p => "yuvj420p",
            PixelLayout::Nv12 => "nv12",
            PixelLayout::Yuyv422 => "yuyv422",
        }
    }

    /// The layout of a name, ignoring case.
    pub fn from_name(name: &str) -> Option<PixelLayout> {
        PixelLayout::ALL.into_iter().find(|layout| layout.name().eq_ignore_ascii_case(name))
    }

    /// Channels after decoding: 1 for gray, 3 for all others.
    pub const fn channels(self) -> u32 {
        if matches!(self, PixelLayout::Gray) { 1 } else { 3 }
    }

    /// Whether the pixels are luma and chroma.
    pub const fn is_yuv(self) -> bool {
        use PixelLayout::{Nv12, Yuv420p, Yuvj420p, Yuyv422};
        matches!(self, Yuv420p | Yuvj420p | Nv12 | Yuyv422)
    }

    /// Bytes in a row of the first plane without padding.
    pub(super) const fn row_bytes(self, width: usize) -> usize {
        match self {
            PixelLayout::Rgb24 | PixelLayout::Bgr24 => 3 * width,
            PixelLayout::Rgba | PixelLayout::Bgra => 4 * width,
            PixelLayout::Yuyv422 => 4 * width.div_ceil(2),
            _ => width,
        }
    }
}

impl Range {
    /// The name in `ImageData.color_range`.
    pub const fn name(self) -> &'static str {
        match self {
            Range::Limited => "limited",
            Range::Full => "full",
        }
    }

    /// The range of a name; `None` for an unknown one.
    pub fn from_name(name: &str) -> Option<Range> {
        let mut all = [Range::Limited, Range::Full].into_iter();
        all.find(|range| range.name().eq_ignore_ascii_case(name))
    }
}

impl Matrix {
    /// The name in `ImageData.color_matrix`.
    pub const fn name(self) -> &'static str {
        match self {
            Matrix::Bt601 => "bt601",
            Matrix::Bt709 => "bt709",
        }
    }

    /// The matrix of a name; `None` for an unknown one.
    pub fn from_name(name: &str) -> Option<Matrix> {
        let mut all = [Matrix::Bt601, Matrix::Bt709].into_iter();
        all.find(|matrix| matrix.name().eq_ignore_ascii_case(name))
    }
}

/// Position of the rows of one plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaneAt {
    pub start: usize,
    /// Bytes from row to row.
    pub stride: usize,
    /// Bytes of a row without padding.
    pub used: usize,
    pub rows: usize,
}

impl PlaneAt {
    pub fn row<'a>(&self, bytes: &'a [u8], y: usize) -> &'a [u8] {
        &bytes[self.start + y * self.stride..][..self.used]
    }

    fn end(&self) -> u128 {
        self.start as u128
            + self.rows.saturating_sub(1) as u128 * self.stride as u128
            + self.used as u128
    }
}

/// Position of every plane in a raw picture, checked against the number of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub pixels: PixelLayout,
    pub range: Range,
    pub matrix: Matrix,
    /// Luma, Cb, Cr. In NV12 the second plane holds both Cb and Cr. In packed layouts the first
    /// plane holds everything.
    pub planes: [Option<PlaneAt>; 3],
}

impl Extent {
    /// Lays out a picture of `width x height`. Padding after the last row may be missing. The error
    /// is a message for the user.
    pub fn new(
        layout: &RawLayout,
        channels: u32,
        (width, height): (usize, usize),
        len: usize,
    ) -> Result<Extent, String> {
        let pixels = match (layout.pixels, channels) {
            (Some(pixels), _) => pixels,
            (None, 1) => PixelLayout::Gray,
            (None, _) => PixelLayout::Rgb24,
        };
        let row = pixels.row_bytes(width);
        let stride = match layout.row_stride as usize {
            0 => row,
            stride if stride >= row => stride,
            stride => {
                return Err(format!(
                    "row_stride is {stride}, and a row of {width} pixels in {} has {row} bytes",
                    pixels.name()
                ));
            }
        };
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let first = PlaneAt { start: 0, stride, used: row, rows: height };
        let luma_len = u128::from(stride as u64) * u128::from(height as u64);
        let too_many = || format!("a raw picture of {width}x{height} pixels is too large");
        let luma_len = usize::try_from(luma_len).map_err(|_| too_many())?;
        let mut planes = [Some(first), None, None];
        match pixels {
            PixelLayout::Yuv420p | PixelLayout::Yuvj420p => {
                let stride = if layout.row_stride == 0 { half_width } else { stride.div_ceil(2) };
                let cb = PlaneAt { start: luma_len, stride, used: half_width, rows: half_height };
                let start =
                    stride.checked_mul(half_height).and_then(|len| len.checked_add(luma_len));
                planes[1] = Some(cb);
                planes[2] = Some(PlaneAt { start: start.ok_or_else(too_many)?, ..cb });
            }
            PixelLayout::Nv12 => {
                let used = 2 * half_width;
                // The stride of luma, enlarged by a byte if it would cut off the last Cr.
                let stride = if layout.row_stride == 0 { used } else { stride.max(used) };
                planes[1] = Some(PlaneAt { start: luma_len, stride, used, rows: half_height });
            }
            _ => {}
        }
        let last = planes.iter().flatten().next_back().copied().unwrap_or(first);
        let least = last.end();
        let most = least + (last.stride - last.used) as u128;
        if (len as u128) < least || len as u128 > most {
            let shape = layout.pixels.map_or_else(
                || format!("{width}x{height}x{channels}"),
                |pixels| format!("{width}x{height} in {}", pixels.name()),
            );
            let padded = if layout.row_stride == 0 {
                String::new()
            } else {
                format!(" with a row_stride of {}", layout.row_stride)
            };
            return Err(format!(
                "raw picture of {shape}{padded} needs {least} bytes, there are {len}"
            ));
        }
        let range = layout.range.unwrap_or(match pixels {
            PixelLayout::Yuvj420p => Range::Full,
            _ => Range::Limited,
        });
        Ok(Extent { pixels, range, matrix: layout.matrix, planes })
    }
}
