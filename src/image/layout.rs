//! How the bytes of a raw picture lie, by FFmpeg's names.
//!
//! Packed layouts become interleaved RGB, planar ones the engine's own planes: 4:2:0, full range,
//! BT.601. So YUV stays YUV on its way to a JPEG. Only lossless output makes RGB of it, straight from
//! the samples that came.

/// Where the samples of a pixel lie.
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
    /// Luma alone.
    Gray,
    /// Three planes, chroma halved both ways; limited range unless said otherwise.
    Yuv420p,
    /// The same, full range unless said otherwise.
    Yuvj420p,
    /// A plane of luma, then one of Cb and Cr in turns, halved both ways.
    Nv12,
    /// Y, Cb, Y, Cr for two pixels.
    Yuyv422,
}

/// The span of luma and chroma.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// 16 to 235 (chroma 240), as video has it.
    Limited,
    /// 0 to 255, as JPEG has it.
    Full,
}

/// How luma and chroma are made of red, green and blue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// ITU-R BT.601, as JPEG has it.
    #[default]
    Bt601,
    /// ITU-R BT.709.
    Bt709,
}

/// The layout of a raw picture. The default is interleaved RGB or gray by its channels, no padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawLayout {
    /// Where samples lie; `None` for `raw`, which is [`PixelLayout::Rgb24`] with 3 channels and
    /// [`PixelLayout::Gray`] with 1.
    pub pixels: Option<PixelLayout>,
    /// Bytes from one row of the first plane to the next; 0 for no padding.
    pub row_stride: u32,
    /// `None` for what the layout says by itself.
    pub range: Option<Range>,
    /// Of YUV layouts.
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

    /// The layout of a name, in any case.
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

/// Where the rows of one plane lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaneAt {
    pub start: usize,
    /// Bytes from row to row.
    pub stride: usize,
    /// Bytes of a row that matter.
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

/// Where everything in a raw picture lies, its size checked against the number of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub pixels: PixelLayout,
    pub range: Range,
    pub matrix: Matrix,
    /// Luma, Cb, Cr; the second has both in NV12; the first has everything in packed layouts.
    pub planes: [Option<PlaneAt>; 3],
}

impl Extent {
    /// Lays out a picture of `width x height`. Padding behind the last row may be missing. The error is
    /// a text for a person.
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
                // The stride of luma; one byte more where that would cut the last Cr off.
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
