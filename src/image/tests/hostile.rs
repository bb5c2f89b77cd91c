use proptest::prelude::*;

use super::*;
use crate::base::error::Reason;

/// A valid file of each coded format; the JPEG also as progressive.
fn files() -> Vec<(Format, Vec<u8>)> {
    let pixels = smooth(70, 50);
    let view = interleaved(&pixels, 70, 50);
    let mut files: Vec<_> = [Format::Jpeg, Format::Png, Format::Webp]
        .map(|format| (format, encode(&view, format, 85)))
        .into();
    let mut compressor = turbojpeg::Compressor::new().unwrap();
    compressor.set_progressive(true).unwrap();
    let format = turbojpeg::PixelFormat::RGB;
    let image = turbojpeg::Image { pixels: &pixels[..], width: 70, pitch: 210, height: 50, format };
    files.push((Format::Jpeg, compressor.compress_to_vec(image).unwrap()));
    files
}

fn outcome(decoder: &mut Decoder, format: Format, bytes: &[u8]) -> Option<Reason> {
    let mut store = Picture::default();
    let mut last = None;
    for needs in [PLANES, ALL, PIXELS] {
        last = decoder.decode(&source(format, bytes), needs, &mut store).err();
    }
    last.map(|reject| reject.reason)
}

#[test]
fn truncated_files_are_refused_everywhere() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    for (format, file) in files() {
        assert_eq!(outcome(&mut decoder, format, &file), None);
        for sixteenth in 0..16 {
            let cut = &file[..file.len() * sixteenth / 16];
            let got = outcome(&mut decoder, format, cut);
            assert_eq!(got, Some(Reason::Undecodable), "{format:?} {sixteenth}/16");
        }
        // A JPEG without its end marker still has every sample. The other formats need their last
        // two bytes.
        let cut = &file[..file.len() - 2];
        let want = (format != Format::Jpeg).then_some(Reason::Undecodable);
        assert_eq!(outcome(&mut decoder, format, cut), want, "{format:?}");
        assert_eq!(outcome(&mut decoder, format, &file), None);
    }
}

#[test]
fn size_is_judged_by_the_header_alone() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let side = 60_000_u32.to_be_bytes();
    let mut files = files();
    files[1].1[16..20].copy_from_slice(&side);
    files[1].1[20..24].copy_from_slice(&side);
    let (_, jpeg) = &mut files[0];
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    // VP8: 14 bits each, after the chunk head, the frame tag and the start code.
    files[2].1[26..30].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    for (format, bytes) in files.iter().take(3) {
        let reject = probe(&source(*format, bytes), &BOUNDS).unwrap_err();
        assert_eq!(reject.reason, Reason::TooLarge, "{format:?}");
        assert_eq!(outcome(&mut decoder, *format, bytes), Some(Reason::TooLarge));
        // The header suffices: nothing after it is read.
        if *format != Format::Webp {
            let head = &bytes[..bytes.len().min(700)];
            assert_eq!(outcome(&mut decoder, *format, head), Some(Reason::TooLarge));
        }
    }
}

#[test]
fn wide_pictures_have_defined_limits() {
    let wide = Bounds { pixels_max: 70_000 };
    let mut decoder = Decoder::new(wide).unwrap();
    let mut encoder = Encoder::new().unwrap();
    let mut out = Vec::new();
    let mut verdict = |width: usize, format: Format| {
        let pixels = vec![90; 3 * width];
        let mut store = Picture::default();
        let view = decoder.decode(&raw(&pixels, width, 1), PIXELS, &mut store).unwrap();
        let target = Target { format, quality: 80, webp_method: 0 };
        encoder.encode(&view, &target, &mut out).map_err(|reject| reject.reason)
    };
    assert_eq!(verdict(16_383, Format::Webp), Ok(()));
    assert_eq!(verdict(16_384, Format::Webp), Err(Reason::EncodeFailed));
    assert_eq!(verdict(65_500, Format::Jpeg), Ok(()));
    assert_eq!(verdict(65_535, Format::Jpeg), Err(Reason::EncodeFailed));
    assert_eq!(verdict(65_535, Format::Png), Ok(()));
    assert_eq!(verdict(65_535, Format::Raw), Ok(()));
    let pixels = vec![90; 3 * 65_535];
    let mut store = Picture::default();
    let reject = decoder.decode(&raw(&pixels, 65_535, 1), PLANES, &mut store).unwrap_err();
    assert_eq!(reject.reason, Reason::UnsupportedImage);
    let view = decoder.decode(&raw(&pixels[..3 * 65_500], 65_500, 1), PLANES, &mut store);
    assert!(view.unwrap().planes.is_some());
}

#[test]
fn contradictory_views_are_refused_not_read() {
    let pixels = smooth(8, 8);
    let mut planes = crate::frame::Planes::default();
    planes.reshape(6, 8, false);
    let good = interleaved(&pixels, 8, 8);
    let bad = [
        View { width: 9, ..good },
        View { channels: 1, ..good },
        View { channels: 4, ..good },
        View { height: 0, interleaved: Some(&[]), ..good },
        View { interleaved: None, ..good },
        View { planes: Some(&planes), ..good },
        View { width: usize::MAX, ..good },
    ];
    let mut encoder = Encoder::new().unwrap();
    for view in bad {
        for format in Format::ALL {
            let target = Target { format, quality: 80, webp_method: 0 };
            let reject = encoder.encode(&view, &target, &mut Vec::new()).unwrap_err();
            assert_eq!(reject.reason, Reason::EncodeFailed);
        }
    }
}

#[test]
fn a_bomb_of_scans_is_refused() {
    let files = files();
    let (_, file) = &files[3];
    let start = file.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let next =
        start + 2 + file[start + 2..].windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let mut bomb = file[..file.len() - 2].to_vec();
    for _ in 0..2000 {
        bomb.extend_from_slice(&file[start..next]);
    }
    bomb.extend([0xff, 0xd9]);
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    assert_eq!(outcome(&mut decoder, Format::Jpeg, &bomb), Some(Reason::Undecodable));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut decoder = Decoder::new(BOUNDS).unwrap();
        let heads: [&[u8]; 5] = [
            b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
            b"RIFF\0\0\0\0WEBPVP8 ", b"RIFF\0\0\0\0WEBPVP8L",
        ];
        for head in heads {
            let bytes = [head, &tail].concat();
            jpeg_quality(&bytes);
            for format in Format::ALL {
                prop_assert!(outcome(&mut decoder, format, &bytes).is_some());
            }
        }
    }

    #[test]
    fn damaged_files_never_panic(
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        which in 0..4_usize,
    ) {
        let files = files();
        let (format, mut bytes) = files[which].clone();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut decoder = Decoder::new(BOUNDS).unwrap();
        outcome(&mut decoder, format, &bytes);
        // The decoder keeps no state that affects an intact file.
        prop_assert_eq!(outcome(&mut decoder, format, &files[which].1), None);
    }
}
