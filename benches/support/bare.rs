//! The bare libraries, used as in their own example programs.

use libwebp_sys::{
    WebPConfig, WebPEncode, WebPMemoryWrite, WebPMemoryWriter, WebPMemoryWriterClear,
    WebPMemoryWriterInit, WebPPicture, WebPPictureFree, WebPPictureImportRGB,
};
use turbojpeg::{Compressor, Decompressor, Image, PixelFormat, Subsamp};

use super::QUALITY;

/// One libjpeg-turbo compressor and decompressor with their buffers.
pub struct Jpeg {
    size: (usize, usize),
    compressor: Compressor,
    decompressor: Decompressor,
    room: Vec<u8>,
    pixels: Vec<u8>,
}

impl Jpeg {
    pub fn new(width: usize, height: usize) -> Jpeg {
        let mut compressor = Compressor::new().unwrap();
        compressor.set_quality(QUALITY.into()).unwrap();
        compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
        Jpeg {
            size: (width, height),
            room: vec![0; compressor.buf_len(width, height).unwrap()],
            compressor,
            decompressor: Decompressor::new().unwrap(),
            pixels: vec![0; 3 * width * height],
        }
    }

    /// RGB to a JPEG: one `tj3Compress8`.
    pub fn encode(&mut self, rgb: &[u8]) -> usize {
        let image = image(rgb, self.size);
        self.compressor.compress_to_slice(image, &mut self.room).unwrap()
    }

    /// A JPEG to RGB: one `tj3Decompress8`.
    pub fn decode(&mut self, file: &[u8]) {
        self.decompressor.decompress(file, image(&mut self.pixels[..], self.size)).unwrap();
    }

    /// A JPEG to RGB and to a JPEG again.
    pub fn recode(&mut self, file: &[u8]) -> usize {
        self.decode(file);
        let image = image(&self.pixels[..], self.size);
        self.compressor.compress_to_slice(image, &mut self.room).unwrap()
    }
}

fn image<T>(pixels: T, (width, height): (usize, usize)) -> Image<T> {
    Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB }
}

/// RGB to a WebP file: import, a memory writer, encode. Returns its length in bytes.
pub fn webp(rgb: &[u8], (width, height): (usize, usize), method: i32) -> usize {
    assert_eq!(rgb.len(), 3 * width * height);
    let mut config = WebPConfig::new().unwrap();
    (config.quality, config.method) = (QUALITY.into(), method);
    let mut picture = WebPPicture::new().unwrap();
    (picture.width, picture.height) = (width as i32, height as i32);
    // SAFETY: the pixels are `height` rows of `3 * width` bytes, as asserted above. Writer and
    // picture are initialised, used on this thread only, and cleared below.
    unsafe {
        let mut writer = std::mem::zeroed::<WebPMemoryWriter>();
        WebPMemoryWriterInit(&mut writer);
        picture.writer = Some(WebPMemoryWrite);
        picture.custom_ptr = (&raw mut writer).cast();
        assert_ne!(WebPPictureImportRGB(&mut picture, rgb.as_ptr(), 3 * picture.width), 0);
        assert_ne!(WebPEncode(&config, &mut picture), 0);
        WebPPictureFree(&mut picture);
        let len = writer.size;
        WebPMemoryWriterClear(&mut writer);
        len
    }
}
