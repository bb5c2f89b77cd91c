use turbojpeg::{Colorspace, Image, PixelFormat, Subsamp};

use super::*;
use crate::base::error::Reason;

fn jpeg(
    width: usize,
    height: usize,
    subsampling: Subsamp,
    tune: impl Fn(&mut turbojpeg::Compressor),
) -> Vec<u8> {
    let pixels = smooth(width, height);
    let mut compressor = turbojpeg::Compressor::new().unwrap();
    compressor.set_subsamp(subsampling).unwrap();
    compressor.set_quality(97).unwrap();
    tune(&mut compressor);
    let format = PixelFormat::RGB;
    let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
    compressor.compress_to_vec(image).unwrap()
}

const SUBSAMPLINGS: [Subsamp; 7] = [
    Subsamp::None,
    Subsamp::Sub2x1,
    Subsamp::Sub2x2,
    Subsamp::Sub1x2,
    Subsamp::Sub4x1,
    Subsamp::Sub1x4,
    Subsamp::Gray,
];

fn refusal(format: Format, bytes: &[u8]) -> Reason {
    let mut store = Picture::default();
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    decoder.decode(&source(format, bytes), PLANES, &mut store).unwrap_err().reason
}

/// Compares a coded `smooth` picture with the planes and pixels of the raw one.
fn looks_like_smooth(file: &[u8], width: usize, height: usize, what: &str) {
    let pixels = smooth(width, height);
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let (mut raw_store, mut store) = (Picture::default(), Picture::default());
    let want = decoder.decode(&raw(&pixels, width, height), PLANES, &mut raw_store).unwrap();
    let want = want.planes.unwrap();
    for needs in [PLANES, ALL, PIXELS] {
        let got = decoder.decode(&source(Format::Jpeg, file), needs, &mut store).unwrap();
        if let Some(planes) = got.planes {
            assert!(mean(planes.luma().samples, want.luma().samples) < 1.2, "{what}");
            for (got, want) in planes.chroma().into_iter().flatten().zip(want.chroma().unwrap()) {
                let chroma = mean(got.samples, want.samples);
                assert!(chroma < 4.0, "{what}: chroma {chroma}");
            }
        }
        if let (Some(got), 3) = (got.interleaved, got.channels) {
            assert!(mean(got, &pixels) < 5.0, "{what} {needs:?}: {}", mean(got, &pixels));
        }
    }
}

#[test]
fn every_subsampling_becomes_four_two_zero() {
    for subsampling in SUBSAMPLINGS {
        for (width, height) in [(64, 64), (63, 49), (50, 61)] {
            let file = jpeg(width, height, subsampling, |_| {});
            looks_like_smooth(&file, width, height, &format!("{subsampling:?} {width}x{height}"));
        }
    }
}

#[test]
fn progressive_arithmetic_and_rgb_files_are_read() {
    let (width, height) = (65, 48);
    let progressive = jpeg(width, height, Subsamp::Sub2x2, |c| c.set_progressive(true).unwrap());
    looks_like_smooth(&progressive, width, height, "progressive");
    let arithmetic = jpeg(width, height, Subsamp::Sub2x2, |c| c.set_arithmetic(true).unwrap());
    looks_like_smooth(&arithmetic, width, height, "arithmetic");
    let optimised = jpeg(width, height, Subsamp::Sub2x2, |c| c.set_optimize(true).unwrap());
    looks_like_smooth(&optimised, width, height, "optimised");
    let rgb = jpeg(width, height, Subsamp::None, |c| c.set_colorspace(Colorspace::RGB).unwrap());
    looks_like_smooth(&rgb, width, height, "RGB");
}

#[test]
fn unusual_jpegs_are_named_and_refused() {
    let lossless = jpeg(32, 32, Subsamp::None, |c| c.set_lossless(true).unwrap());
    assert_eq!(refusal(Format::Jpeg, &lossless), Reason::UnsupportedImage);
    let mut twelve_bits = jpeg(32, 32, Subsamp::Sub2x2, |_| {});
    let frame = twelve_bits.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    twelve_bits[frame + 4] = 12;
    assert_eq!(refusal(Format::Jpeg, &twelve_bits), Reason::UnsupportedImage);
    let pixels = vec![100; 32 * 32 * 4];
    let format = PixelFormat::CMYK;
    let image = Image { pixels: &pixels[..], width: 32, pitch: 128, height: 32, format };
    let cmyk = turbojpeg::compress(image, 90, Subsamp::None).unwrap();
    assert_eq!(refusal(Format::Jpeg, &cmyk), Reason::UnsupportedImage);
}

#[test]
fn stray_bytes_before_the_end_marker_are_forgiven() {
    let plain = jpeg(48, 32, Subsamp::Sub2x2, |_| {});
    let (body, end) = plain.split_at(plain.len() - 2);
    let padded = [body, &[0; 7], end].concat();
    assert_eq!(decode(Format::Jpeg, &padded), decode(Format::Jpeg, &plain));
}

#[test]
fn what_follows_the_end_marker_is_ignored() {
    let plain = jpeg(48, 32, Subsamp::Sub2x2, |_| {});
    let followed = [&plain[..], b"\xff\xd8\xff\xe0 and so on", &[0; 500]].concat();
    assert_eq!(decode(Format::Jpeg, &followed), decode(Format::Jpeg, &plain));
}

#[test]
fn restart_markers_are_read_and_a_missing_one_is_noticed() {
    let (width, height) = (96, 64);
    let file = with_restart_rows(&smooth(width, height), (width, height), 97);
    looks_like_smooth(&file, width, height, "restart markers");
    let second = file.windows(2).position(|pair| pair == [0xff, 0xd1]).unwrap();
    let without = [&file[..second], &file[second + 2..]].concat();
    assert_eq!(refusal(Format::Jpeg, &without), Reason::Undecodable);
}

#[test]
fn one_file_leaves_nothing_behind_for_the_next() {
    let good = jpeg(48, 32, Subsamp::Sub2x2, |_| {});
    let want = decode(Format::Jpeg, &good);
    let mut broken_header = good.clone();
    let frame = good.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    // Sampling factors that libjpeg-turbo refuses while it reads the header.
    broken_header[frame + 11] = 0x77;
    // A file without Huffman tables means the standard ones, whatever the decoder has read before.
    let mut bare = good.clone();
    while let Some(at) = bare.windows(2).position(|pair| pair == [0xff, 0xc4]) {
        let len = usize::from(u16::from_be_bytes([bare[at + 2], bare[at + 3]]));
        bare.drain(at..at + 2 + len);
    }
    let optimised = jpeg(48, 32, Subsamp::Sub2x2, |c| c.set_optimize(true).unwrap());
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let mut store = Picture::default();
    for _ in 0..2 {
        assert!(decoder.decode(&source(Format::Jpeg, &broken_header), PIXELS, &mut store).is_err());
        for file in [&good, &optimised, &bare] {
            let view = decoder.decode(&source(Format::Jpeg, file), PIXELS, &mut store).unwrap();
            assert_eq!(view.interleaved.unwrap(), want);
        }
    }
}

fn png_file(colour: ::png::ColorType, depth: ::png::BitDepth, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut out, 4, 2);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == ::png::ColorType::Indexed {
        encoder.set_palette(vec![1, 2, 3, 40, 50, 60]);
        encoder.set_trns(vec![0, 255]);
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    out
}

#[test]
fn every_kind_of_png_becomes_eight_bit_gray_or_rgb() {
    use ::png::{BitDepth, ColorType};
    let check = |colour, depth, data: &[u8], want: &[u8]| {
        assert_eq!(decode(Format::Png, &png_file(colour, depth, data)), want, "{colour:?}");
    };
    let ramp: Vec<u8> = (0..64).collect();
    let every = |step: usize, take: usize, len: usize| -> Vec<u8> {
        ramp.chunks(step).flat_map(|pixel| pixel[..take].to_vec()).take(len).collect()
    };
    check(ColorType::Grayscale, BitDepth::Eight, &ramp[..8], &ramp[..8]);
    check(ColorType::GrayscaleAlpha, BitDepth::Eight, &ramp[..16], &every(2, 1, 8));
    check(ColorType::Rgb, BitDepth::Eight, &ramp[..24], &ramp[..24]);
    check(ColorType::Rgba, BitDepth::Eight, &ramp[..32], &every(4, 3, 24));
    check(ColorType::Grayscale, BitDepth::Sixteen, &ramp[..16], &every(2, 1, 8));
    check(ColorType::Rgb, BitDepth::Sixteen, &ramp[..48], &every(2, 1, 24));
    check(ColorType::Grayscale, BitDepth::One, &[0xa0, 0x50], &[255, 0, 255, 0, 0, 255, 0, 255]);
    let palette = [[40, 50, 60], [1, 2, 3]].concat();
    let want = [palette.repeat(2), [[1, 2, 3], [40, 50, 60]].concat().repeat(2)].concat();
    check(ColorType::Indexed, BitDepth::One, &[0xa0, 0x50], &want);
}

#[test]
fn raw_pictures_must_agree_with_their_claims() {
    let reason = |width, height, channels, len: usize| {
        let bytes = vec![0; len];
        let picture = InputImage {
            format: Format::Raw,
            width,
            height,
            channels,
            layout: Default::default(),
            bytes: &bytes,
        };
        probe(&picture, &BOUNDS).map_err(|reject| reject.reason)
    };
    assert!(reason(4, 2, 3, 24).is_ok());
    assert!(reason(4, 2, 1, 8).is_ok());
    for (width, height, channels, len) in
        [(4, 2, 3, 23), (4, 2, 3, 25), (0, 2, 3, 0), (4, 0, 3, 0), (4, 2, 4, 32), (4, 2, 0, 0)]
    {
        assert_eq!(reason(width, height, channels, len), Err(Reason::UnsupportedImage));
    }
    assert_eq!(reason(u32::MAX, u32::MAX, 3, 0), Err(Reason::TooLarge));
}

#[test]
fn tiny_files_of_every_subsampling_are_read() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let mut store = Picture::default();
    for subsampling in SUBSAMPLINGS {
        for (width, height) in (1..=17).flat_map(|width| [1, 2, 3, 5, 8, 9, 16].map(|h| (width, h)))
        {
            let file = jpeg(width, height, subsampling, |_| {});
            for needs in [ALL, PLANES, PIXELS] {
                let view = decoder.decode(&source(Format::Jpeg, &file), needs, &mut store).unwrap();
                assert_eq!((view.width, view.height), (width, height));
                let len = view.interleaved.map_or(view.channels * width * height, <[u8]>::len);
                assert_eq!(len, view.channels * width * height);
            }
        }
    }
}

#[test]
fn lossless_webp_is_exact_and_alpha_is_ignored() {
    let pixels = smooth(21, 13);
    let with_alpha: Vec<u8> =
        pixels.chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 200]).collect();
    for (data, colour) in
        [(&pixels, image_webp::ColorType::Rgb8), (&with_alpha, image_webp::ColorType::Rgba8)]
    {
        let mut file = Vec::new();
        image_webp::WebPEncoder::new(&mut file).encode(data, 21, 13, colour).unwrap();
        assert_eq!(decode(Format::Webp, &file), pixels);
        let mut store = Picture::default();
        let mut decoder = Decoder::new(BOUNDS).unwrap();
        let view = decoder.decode(&source(Format::Webp, &file), ALL, &mut store).unwrap();
        assert!(view.planes.is_some() && view.interleaved.is_some());
    }
}

#[test]
fn animated_webp_is_refused() {
    let mut file = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0".to_vec();
    file.extend([9, 0, 0, 9, 0, 0]);
    assert_eq!(refusal(Format::Webp, &file), Reason::UnsupportedImage);
}

#[test]
fn the_default_picture_of_an_animated_png_is_taken() {
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, 4, 2);
    encoder.set_color(::png::ColorType::Grayscale);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[10; 8]).unwrap();
    writer.write_image_data(&[20; 8]).unwrap();
    writer.finish().unwrap();
    assert_eq!(decode(Format::Png, &file), [10; 8]);
}

#[test]
fn interlaced_png_is_read() {
    // Two rows of one pixel have the same bytes as one interlaced row of two pixels: its first
    // pixel is pass 1, its second pass 6.
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, 1, 2);
    encoder.set_color(::png::ColorType::Grayscale);
    encoder.set_filter(::png::Filter::NoFilter);
    encoder.write_header().unwrap().write_image_data(&[50, 70]).unwrap();
    file[16..29].copy_from_slice(&[0, 0, 0, 2, 0, 0, 0, 1, 8, 0, 0, 0, 1]);
    let sum = file[12..29].iter().fold(!0_u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    });
    file[29..33].copy_from_slice(&(!sum).to_be_bytes());
    assert_eq!(decode(Format::Png, &file), [50, 70]);
}

#[test]
fn codecs_may_move_to_their_worker() {
    fn moves<T: Send>() {}
    moves::<Decoder>();
    moves::<Encoder>();
    moves::<Scaler>();
    moves::<Picture>();
}
