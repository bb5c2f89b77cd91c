//! Safe wrapper around libwebp.
//!
//! Every call checks its slices first. libwebp allocates on the C heap and frees that memory before
//! it returns. This module allocates on Rust's heap only if the output outgrows its buffer.
//!
//! Animations and alpha are deliberately not supported. WebP has no gray files.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::{ptr, slice};

use libwebp_sys as raw;

/// The largest width or height of a WebP picture.
pub(super) const SIDE_MAX: usize = raw::WEBP_MAX_DIMENSION as usize;

/// Contents of a WebP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    pub width: u32,
    pub height: u32,
    pub animated: bool,
    /// Stored as planes (VP8); otherwise as exact RGB (VP8L).
    pub lossy: bool,
    /// Whether the file has the length that the RIFF header states; the decoder accepts some
    /// shorter files.
    pub is_whole: bool,
}

/// Reads the header. The error is a message for the user.
pub(super) fn features(bytes: &[u8]) -> Result<Features, &'static str> {
    let claimed = match bytes {
        [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P', ..] => {
            u64::from(u32::from_le_bytes([*a, *b, *c, *d])) + 8
        }
        _ => return Err("not a WebP file: no RIFF header"),
    };
    let is_whole = bytes.len() as u64 >= claimed;
    let mut found = raw::WebPBitstreamFeatures {
        width: 0,
        height: 0,
        has_alpha: 0,
        has_animation: 0,
        format: 0,
        pad: [0; 5],
    };
    // SAFETY: pointer and length of one slice, and a place to write the result to.
    let status = unsafe { raw::WebPGetFeatures(bytes.as_ptr(), bytes.len(), &mut found) };
    if status != raw::VP8StatusCode::VP8_STATUS_OK {
        return Err(if is_whole { "WebP header is broken" } else { "WebP file is cut off" });
    }
    match (u32::try_from(found.width), u32::try_from(found.height)) {
        (Ok(width), Ok(height)) => Ok(Features {
            width,
            height,
            animated: found.has_animation != 0,
            lossy: found.format == 1,
            is_whole,
        }),
        _ => Err("WebP header is broken"),
    }
}

/// Decodes to interleaved RGB, dropping alpha; `out` is exactly `width * height * 3` long.
/// False if the file is damaged or of another size.
#[must_use]
pub(super) fn decode_rgb(bytes: &[u8], width: usize, out: &mut [u8]) -> bool {
    let Ok(stride) = c_int::try_from(3 * width) else { return false };
    // SAFETY: the library checks its writes against the given length and stride.
    let end = unsafe {
        raw::WebPDecodeRGBInto(bytes.as_ptr(), bytes.len(), out.as_mut_ptr(), out.len(), stride)
    };
    !end.is_null()
}

/// Decodes the readable part of a damaged or truncated file to interleaved RGB and leaves the rest
/// black. False if not a single row is readable.
#[must_use]
pub(super) fn decode_some_rgb(bytes: &[u8], width: usize, out: &mut [u8]) -> bool {
    let Ok(stride) = c_int::try_from(3 * width) else { return false };
    out.fill(0);
    // SAFETY: the library checks its writes against the given length and stride; `out` outlives the
    // decoder, which is deleted below. A null decoder is handled.
    unsafe {
        let decoder =
            raw::WebPINewRGB(raw::WEBP_CSP_MODE::MODE_RGB, out.as_mut_ptr(), out.len(), stride);
        if decoder.is_null() {
            return false;
        }
        let mut rows = 0;
        raw::WebPIUpdate(decoder, bytes.as_ptr(), bytes.len());
        let shown = raw::WebPIDecGetRGB(
            decoder,
            &mut rows,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        );
        raw::WebPIDelete(decoder);
        !shown.is_null() && rows > 0
    }
}

/// Decodes to limited-range 4:2:0 planes without row padding; the chroma planes have
/// `ceil(width / 2)` samples in a row. False if the file is damaged or of another size.
#[must_use]
pub(super) fn decode_planes(bytes: &[u8], width: usize, [y, u, v]: [&mut [u8]; 3]) -> bool {
    let (Ok(stride), Ok(half)) = (c_int::try_from(width), c_int::try_from(width.div_ceil(2)))
    else {
        return false;
    };
    // SAFETY: the library checks its writes against the three lengths and strides.
    let end = unsafe {
        raw::WebPDecodeYUVInto(
            bytes.as_ptr(),
            bytes.len(),
            y.as_mut_ptr(),
            y.len(),
            stride,
            u.as_mut_ptr(),
            u.len(),
            half,
            v.as_mut_ptr(),
            v.len(),
            half,
        )
    };
    !end.is_null()
}

/// The pixels to encode.
pub(super) enum WebpPixels<'a> {
    /// Interleaved RGB without row padding.
    Rgb(&'a [u8]),
    /// Limited-range 4:2:0 planes Y, U, V one after the other, without padding.
    Planes(&'a [u8]),
}

/// Owns the picture structure, so that libwebp's allocations are freed on every return path.
struct WebpPicture(raw::WebPPicture);

impl Drop for WebpPicture {
    fn drop(&mut self) {
        // SAFETY: the structure was initialised; the library frees only its own memory.
        unsafe { raw::WebPPictureFree(&mut self.0) }
    }
}

/// Encodes with loss and appends to `out`. The error is a message for the user.
///
/// `quality` is 1 to 100, `method` 0 (fast) to 6 (small).
pub(super) fn encode(
    pixels: WebpPixels<'_>,
    (width, height): (usize, usize),
    quality: u8,
    method: u8,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    if width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX {
        return Err("WebP pictures have 1 to 16383 pixels a side");
    }
    let mut config = raw::WebPConfig::new().map_err(|()| "libwebp is of another version")?;
    config.quality = f32::from(quality.clamp(1, 100));
    config.method = c_int::from(method.min(6));
    let picture = raw::WebPPicture::new().map_err(|()| "libwebp is of another version")?;
    let mut picture = WebpPicture(picture);
    let inner = &mut picture.0;
    (inner.width, inner.height) = (width as c_int, height as c_int);
    match pixels {
        WebpPixels::Rgb(rgb) => {
            if rgb.len() < width * height * 3 {
                return Err("interleaved buffer and picture size do not agree");
            }
            // SAFETY: `height` rows of `3 * width` bytes are there, as just checked.
            if unsafe { raw::WebPPictureImportRGB(inner, rgb.as_ptr(), 3 * width as c_int) } == 0 {
                return Err("libwebp is out of memory");
            }
        }
        WebpPixels::Planes(samples) => {
            let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
            let (luma, chroma) = (width * height, half_width * half_height);
            if samples.len() < luma + 2 * chroma {
                return Err("planar buffer and picture size do not agree");
            }
            // The encoder only reads the planes; the pointers are mutable for other uses of the
            // structure.
            inner.y = samples.as_ptr().cast_mut();
            inner.u = samples[luma..].as_ptr().cast_mut();
            inner.v = samples[luma + chroma..].as_ptr().cast_mut();
            (inner.y_stride, inner.uv_stride) = (width as c_int, half_width as c_int);
        }
    }
    inner.writer = Some(append);
    inner.custom_ptr = (out as *mut Vec<u8>).cast::<c_void>();
    // SAFETY: config and picture are initialised; the planes and `out` outlive the call, and
    // `append` is the only user of `custom_ptr`.
    if unsafe { raw::WebPEncode(&config, inner) } == 0 {
        return Err(match inner.error_code {
            raw::WebPEncodingError::VP8_ENC_ERROR_OUT_OF_MEMORY
            | raw::WebPEncodingError::VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY
            | raw::WebPEncodingError::VP8_ENC_ERROR_BAD_WRITE => "libwebp is out of memory",
            raw::WebPEncodingError::VP8_ENC_ERROR_PARTITION0_OVERFLOW
            | raw::WebPEncodingError::VP8_ENC_ERROR_PARTITION_OVERFLOW
            | raw::WebPEncodingError::VP8_ENC_ERROR_FILE_TOO_BIG => {
                "the picture does not fit the WebP format at this quality"
            }
            _ => "libwebp refused the picture",
        });
    }
    Ok(())
}

/// Called by libwebp with each piece of output.
unsafe extern "C" fn append(
    data: *const u8,
    len: usize,
    picture: *const raw::WebPPicture,
) -> c_int {
    if len == 0 {
        return 1;
    }
    // SAFETY: `encode` stored the pointer to its exclusive `out` there, and libwebp passes `len`
    // readable bytes.
    let (out, data) = unsafe {
        (&mut *(*picture).custom_ptr.cast::<Vec<u8>>(), slice::from_raw_parts(data, len))
    };
    // A panic must not cross into C.
    if out.try_reserve(len).is_err() {
        return 0;
    }
    out.extend_from_slice(data);
    1
}
