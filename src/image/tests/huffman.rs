//! Huffman tables do not change the pixels, and every picture can be coded.

use proptest::prelude::*;

use super::*;
use crate::frame::Planes;

/// A file with these codes, made from the planes if the view has them.
fn coded(view: &View<'_>, quality: u8, codes: Codes<'_>) -> Vec<u8> {
    let target = Target { format: Format::Jpeg, quality, webp_method: 0 };
    let mut out = Vec::new();
    Encoder::new().unwrap().encode_with(view, &target, codes, &mut out).unwrap();
    out
}

fn standard(view: &View<'_>, quality: u8) -> Vec<u8> {
    coded(view, quality, Codes::Tables(standard_tables()))
}

/// Samples at the ends of their range, by the sign of a cosine: no block has a larger coefficient
/// at that frequency.
fn extreme(across: usize, down: usize, turned: bool) -> Vec<u8> {
    let sign = |at: usize, frequency: usize| {
        ((2 * at + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0).cos() >= 0.0
    };
    let block = |x: usize, y: usize| sign(x, across) == sign(y, down);
    (0..64 * 64)
        .map(|at| (at % 64, at / 64))
        // Blocks alternate with their negatives, so that DC differences are as large as possible.
        .map(|(x, y)| block(x % 8, y % 8) != (turned ^ ((x / 8 + y / 8) % 2 == 0)))
        .map(|is_bright| if is_bright { 255 } else { 0 })
        .collect()
}

/// Pictures with extreme samples or coefficients.
fn extremes() -> Vec<Vec<u8>> {
    let mut all = vec![vec![0; 4096], vec![255; 4096], noise(4096, 7)];
    all.push(noise(4096, 9).into_iter().map(|sample| if sample < 128 { 0 } else { 255 }).collect());
    for (across, down) in (0..64).map(|at| (at % 8, at / 8)) {
        all.extend([extreme(across, down, false), extreme(across, down, true)]);
    }
    for at in [0, 63, 2080, 4095] {
        let mut single = vec![0; 4096];
        single[at] = 255;
        all.push(single);
    }
    all
}

/// The picture in all three channels, only in red, and in opposite chroma.
fn colours(gray: &[u8]) -> [Vec<u8>; 3] {
    [
        gray.iter().flat_map(|&sample| [sample; 3]).collect(),
        gray.iter().flat_map(|&sample| [sample, 0, 0]).collect(),
        gray.iter().flat_map(|&sample| [sample, 128, 255 - sample]).collect(),
    ]
}

/// Tables of a camera that has seen only `file`.
fn learnt(file: &[u8], quality: u8, gray: bool) -> Chosen {
    let camera = Adaptive::default();
    assert!(camera.learn(&mut Learner::default(), quality, file, gray));
    camera.choose(quality, gray)
}

#[test]
fn standard_tables_give_what_turbojpeg_gives() {
    for (width, height) in [(64, 48), (1, 1), (33, 17), (17, 34), (640, 8), (3, 200)] {
        for quality in [1, 50, 85, 100] {
            let pixels = noise(3 * width * height, 3);
            let image = turbojpeg::Image {
                pixels: &pixels[..],
                width,
                pitch: 3 * width,
                height,
                format: turbojpeg::PixelFormat::RGB,
            };
            let theirs = turbojpeg::compress(image, quality, turbojpeg::Subsamp::Sub2x2).unwrap();
            let ours = standard(&interleaved(&pixels, width, height), quality as u8);
            assert!(ours == theirs[..], "{width}x{height} at {quality}");

            let mut planes = Planes::default();
            planes.reshape(width, height, false);
            let len = planes.samples().len();
            planes.samples_mut().copy_from_slice(&noise(len, 5));
            let mut padded = Vec::new();
            samples::pad(&planes, &mut padded);
            let yuv = turbojpeg::YuvImage {
                pixels: &padded[..],
                width,
                align: 1,
                height,
                subsamp: turbojpeg::Subsamp::Sub2x2,
            };
            let mut compressor = turbojpeg::Compressor::new().unwrap();
            compressor.set_quality(quality).unwrap();
            let theirs = compressor.compress_yuv_to_vec(yuv).unwrap();
            let view =
                View { width, height, channels: 3, interleaved: None, planes: Some(&planes) };
            assert!(standard(&view, quality as u8) == theirs, "planes {width}x{height}, {quality}");
        }
    }
}

#[test]
fn standard_tables_are_those_of_the_library() {
    let file = standard(&interleaved(&smooth(32, 32), 32, 32), 75);
    let image = turbojpeg::Image {
        pixels: &smooth(32, 32)[..],
        width: 32,
        pitch: 96,
        height: 32,
        format: turbojpeg::PixelFormat::RGB,
    };
    assert_eq!(file, turbojpeg::compress(image, 75, turbojpeg::Subsamp::Sub2x2).unwrap()[..]);
    assert_eq!(standard_tables().bytes(false), 28 + 178 + 28 + 178 + 4 * 5);
}

/// Tables learnt from a flat picture must work for every other picture.
#[test]
fn no_picture_is_beyond_any_tables() {
    let flat = vec![128; 3 * 64 * 64];
    let (all, mut encoder) = (extremes(), Encoder::new().unwrap());
    for quality in 1..=100 {
        let file = standard(&interleaved(&flat, 64, 64), quality);
        let learnt_flat = learnt(&file, quality, false);
        // The common qualities are tested with all pictures, the others with some.
        let step = if [1, 25, 50, 75, 85, 95, 100].contains(&quality) { 1 } else { 17 };
        let some = all.iter().skip(usize::from(quality) % step).step_by(step);
        for pixels in some.flat_map(|gray| colours(gray)) {
            let view = interleaved(&pixels, 64, 64);
            let target = Target { format: Format::Jpeg, quality, webp_method: 0 };
            let mut file_with = |codes| {
                let mut out = Vec::new();
                encoder.encode_with(&view, &target, codes, &mut out).unwrap();
                out
            };
            let want = file_with(Codes::Tables(standard_tables()));
            let counts = count_symbols(&want).unwrap();
            for tables in [learnt_flat.tables(), start_tables(quality)] {
                let file = file_with(Codes::Tables(tables));
                let same = count_symbols(&file).expect("every symbol has a code");
                assert_eq!((same.dc, same.ac), (counts.dc, counts.ac), "quality {quality}");
                if step == 1 {
                    assert_eq!(decode(Format::Jpeg, &file), decode(Format::Jpeg, &want));
                }
            }
        }
    }
}

#[test]
fn gray_pictures_have_tables_of_their_own() {
    let pixels = gray(160, 120);
    let view = interleaved(&pixels, 160, 120);
    let want = standard(&view, 80);
    let chosen = learnt(&want, 80, true);
    let file = coded(&view, 80, Codes::Tables(chosen.tables()));
    assert!(file.len() < want.len(), "{} of {}", file.len(), want.len());
    assert_eq!(decode(Format::Jpeg, &file), decode(Format::Jpeg, &want));
}

#[test]
fn an_encoder_keeps_no_tables_of_the_picture_before() {
    let pixels = noise(3 * 96 * 64, 4);
    let view = interleaved(&pixels, 96, 64);
    let want = [
        standard(&view, 75),
        coded(&view, 75, Codes::TwoPasses),
        coded(&view, 75, Codes::Tables(start_tables(75))),
    ];
    let mut encoder = Encoder::new().unwrap();
    let target = Target { format: Format::Jpeg, quality: 75, webp_method: 0 };
    let mut out = Vec::new();
    for round in 0..12 {
        let kind = [0, 1, 0, 2, 1, 2][round % 6];
        let codes =
            [Codes::Tables(standard_tables()), Codes::TwoPasses, Codes::Tables(start_tables(75))]
                [kind];
        encoder.encode_with(&view, &target, codes, &mut out).unwrap();
        assert!(out == want[kind], "round {round}");
    }
}

#[test]
fn a_file_that_outgrows_its_buffer_is_whole() {
    // The file is far larger than the first estimate of its size.
    let pixels = noise(3 * 320 * 240, 11);
    let view = interleaved(&pixels, 320, 240);
    let flat = standard(&interleaved(&[128; 3 * 64 * 64], 64, 64), 100);
    let chosen = learnt(&flat, 100, false);
    let file = coded(&view, 100, Codes::Tables(chosen.tables()));
    assert!(file.len() > 4096 + 320 * 240 / 4);
    assert_eq!(decode(Format::Jpeg, &file), decode(Format::Jpeg, &standard(&view, 100)));
}

#[test]
fn counting_knows_restart_markers_and_refuses_what_is_broken() {
    let pixels = noise(3 * 96 * 64, 12);
    let whole = with_restart_rows(&pixels, (96, 64), 90);
    let counts = count_symbols(&whole).unwrap();
    assert_eq!(counts.blocks, 6 * 4 * 6);
    assert_eq!(counts.dc[0].iter().sum::<u32>(), 6 * 4 * 4);
    for len in 0..whole.len() - 4 {
        count_symbols(&whole[..len]); // must not panic, nor take long
    }
    assert!(count_symbols(&whole[..whole.len() / 2]).is_none());
    let restart = whole.windows(2).position(|pair| pair == [0xff, 0xd1]).unwrap();
    let without = [&whole[..restart], &whole[restart + 2..]].concat();
    assert!(count_symbols(&without).is_none());
}

#[test]
fn recoding_changes_bytes_and_no_coefficient() {
    for (width, height, quality) in [(64, 48, 60), (33, 17, 85), (160, 120, 95), (1, 1, 50)] {
        for pixels in [smooth(width, height), gray(width, height), noise(3 * width * height, 1)] {
            let file = standard(&interleaved(&pixels, width, height), quality);
            let mut recoded = Vec::new();
            recode_jpeg(&file, &mut recoded).unwrap();
            let best = coded(&interleaved(&pixels, width, height), quality, Codes::TwoPasses);
            // The number of bits is the same; the number of stuffed bytes varies.
            let most = best.len() + best.len() / 200;
            assert!(recoded.len() <= most, "{} of {}", recoded.len(), best.len());
            assert_eq!(decode(Format::Jpeg, &recoded), decode(Format::Jpeg, &file));
            let (a, b) = (count_symbols(&file).unwrap(), count_symbols(&recoded).unwrap());
            assert_eq!((a.dc, a.ac), (b.dc, b.ac));
        }
    }
    let restarts = with_restart_rows(&noise(3 * 96 * 64, 2), (96, 64), 90);
    let mut recoded = Vec::new();
    recode_jpeg(&restarts, &mut recoded).unwrap();
    assert_eq!(decode(Format::Jpeg, &recoded), decode(Format::Jpeg, &restarts));
}

#[test]
fn a_camera_learns_within_its_budget() {
    let camera = Adaptive::default();
    let (pixels, mut learner) = (noise(3 * 64 * 64, 1), Learner::default());
    let file = standard(&interleaved(&pixels, 64, 64), 85);
    // A camera whose every frame differs from the one before: counting costs 50 frames, tables 10.
    let frames = 10_000;
    let mut learnt = 0;
    for number in 0..frames {
        let chosen = camera.choose(85, false);
        if camera.judge(&chosen, &file, 10_000 + 1000 * (number % 7), false) {
            learnt += usize::from(camera.learn(&mut learner, 85, &file, false));
        }
    }
    assert!((frames / 61..=frames / 56 + 2).contains(&learnt), "{learnt}");

    // A camera with unchanging pictures learns once.
    let camera = Adaptive::default();
    let mut learnt = 0;
    for _ in 0..1000 {
        let chosen = camera.choose(85, false);
        let file = coded(&interleaved(&pixels, 64, 64), 85, Codes::Tables(chosen.tables()));
        if camera.judge(&chosen, &file, 96, false) {
            learnt += usize::from(camera.learn(&mut learner, 85, &file, false));
        }
    }
    assert_eq!(learnt, 1);
    // Another quality needs other tables.
    assert_eq!(camera.choose(60, false).tables(), start_tables(60));
    assert!(std::mem::size_of_val(camera.choose(85, false).tables()) <= 512);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tables_give_the_same_pixels(
        (width, height) in (1_usize..70, 1_usize..70),
        quality in 1_u8..=100,
        seeds in any::<(u32, u32)>(),
        depth in 0_u32..8,
        is_gray in any::<bool>(),
    ) {
        let len = width * height * if is_gray { 1 } else { 3 };
        let pixels: Vec<u8> =
            noise(len, seeds.0).into_iter().map(|sample| sample >> depth << depth).collect();
        let view = interleaved(&pixels, width, height);
        let other = noise(len, seeds.1).into_iter().map(|sample| 100 + (sample >> 5)).collect::<Vec<_>>();
        let taught = standard(&interleaved(&other, width, height), quality);
        let want = decode(Format::Jpeg, &standard(&view, quality));
        let chosen = learnt(&taught, quality, is_gray);
        for codes in [
            Codes::Tables(chosen.tables()),
            Codes::Tables(start_tables(quality)),
            Codes::TwoPasses,
        ] {
            let file = coded(&view, quality, codes);
            prop_assert_eq!(&decode(Format::Jpeg, &file), &want);
            let mut recoded = Vec::new();
            recode_jpeg(&file, &mut recoded).unwrap();
            prop_assert_eq!(&decode(Format::Jpeg, &recoded), &want);
        }
    }

    #[test]
    fn walking_over_damaged_files_neither_panics_nor_hangs(
        changes in proptest::collection::vec((0_usize..4000, any::<u8>()), 1..8),
    ) {
        let mut file = with_restart_rows(&noise(3 * 64 * 48, 3), (64, 48), 80);
        for (at, value) in changes {
            let at = at % file.len();
            file[at] = value;
        }
        count_symbols(&file);
        recode_jpeg(&file, &mut Vec::new());
    }
}
