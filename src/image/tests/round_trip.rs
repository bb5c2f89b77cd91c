use super::*;

/// A usual size, and odd, thin and tiny ones.
const SIZES: [(usize, usize); 9] =
    [(64, 48), (1, 1), (1, 40), (40, 1), (2, 1), (33, 17), (17, 34), (16, 15), (3, 3)];

#[test]
fn every_path_brings_the_picture_back() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let mut encoder = Encoder::new().unwrap();
    let mut out = Vec::new();
    for (width, height) in SIZES {
        for pixels in [smooth(width, height), gray(width, height)] {
            let mut store = Picture::default();
            let full = decoder.decode(&raw(&pixels, width, height), ALL, &mut store).unwrap();
            assert_eq!(full.interleaved.unwrap(), pixels);
            let planar = View { interleaved: None, ..full };
            let packed = View { planes: None, ..full };
            for view in [full, planar, packed] {
                for format in Format::ALL {
                    let target = Target { format, quality: 98, webp_method: 1 };
                    encoder.encode(&view, &target, &mut out).unwrap();
                    let mut back = raw(&pixels, width, height);
                    (back.format, back.bytes) = (format, &out);
                    for needs in [PIXELS, PLANES, ALL] {
                        let what = format!("{width}x{height} {format:?} {needs:?}");
                        check(&mut decoder, &back, needs, &pixels, &full, &what);
                    }
                }
            }
        }
    }
}

fn check(
    decoder: &mut Decoder,
    file: &InputImage<'_>,
    needs: Needs,
    pixels: &[u8],
    full: &View<'_>,
    what: &str,
) {
    let header = probe(file, &BOUNDS).unwrap();
    let mut store = Picture::default();
    let view = decoder.decode(file, needs, &mut store).unwrap();
    assert_eq!((view.width, view.height), (full.width, full.height), "{what}");
    assert_eq!(header.channels as usize, view.channels, "{what}");
    assert!(!needs.interleaved || view.interleaved.is_some(), "{what}");
    assert!(!needs.planes || view.planes.is_some(), "{what}");
    if let Some(got) = view.interleaved {
        // WebP returns a gray picture as three equal channels.
        let step = view.channels / full.channels;
        let got: Vec<u8> = got.iter().copied().step_by(step).collect();
        // In tiny pictures the edges of chroma samples weigh more.
        let limit = if full.width.min(full.height) < 16 { 6.0 } else { 3.0 };
        let limit = if full.channels == 1 { 1.6 } else { limit };
        assert!(mean(&got, pixels) <= limit, "{what}: {}", mean(&got, pixels));
    }
    if let (Some(got), Some(want)) = (view.planes, full.planes) {
        let luma = mean(got.luma().samples, want.luma().samples);
        assert!(luma <= 1.6, "{what}: luma {luma}");
        if let (Some(got), Some(want)) = (got.chroma(), want.chroma()) {
            for (got, want) in got.iter().zip(want) {
                let chroma = mean(got.samples, want.samples);
                assert!(chroma <= 2.5, "{what}: chroma {chroma}");
            }
        }
    }
}

#[test]
fn png_and_raw_are_lossless() {
    for pixels in [smooth(31, 9), gray(31, 9)] {
        for format in [Format::Png, Format::Raw] {
            let mut file = raw(&pixels, 31, 9);
            let bytes = encode(&interleaved(&pixels, 31, 9), format, 1);
            (file.format, file.bytes) = (format, &bytes);
            let mut store = Picture::default();
            let view = Decoder::new(BOUNDS).unwrap().decode(&file, PIXELS, &mut store);
            assert_eq!(view.unwrap().interleaved.unwrap(), pixels);
        }
    }
}

/// Flat patches of 32x32 of the given colours, side by side.
fn patches(colours: &[[u8; 3]]) -> Vec<u8> {
    let row: Vec<u8> = colours.iter().flat_map(|colour| colour.repeat(32)).collect();
    row.repeat(32)
}

fn within_three_levels(format: Format, webp_method: u8, colours: &[[u8; 3]]) {
    let pixels = patches(colours);
    let width = 32 * colours.len();
    let mut store = Picture::default();
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let view = decoder.decode(&raw(&pixels, width, 32), PLANES, &mut store).unwrap();
    let view = View { interleaved: None, ..view };
    for view in [view, interleaved(&pixels, width, 32)] {
        let target = Target { format, quality: 100, webp_method };
        let mut file = Vec::new();
        Encoder::new().unwrap().encode(&view, &target, &mut file).unwrap();
        let got = decode(format, &file);
        let planes = if view.planes.is_some() { "planes" } else { "pixels" };
        for (index, colour) in colours.iter().enumerate() {
            // The middle of the patch, away from the neighbours' chroma.
            let at = 3 * (16 * width + 32 * index + 16);
            let got = &got[at..at + 3];
            assert!(worst(got, colour) <= 3, "{target:?} from {planes}: {colour:?} -> {got:?}");
        }
    }
}

#[test]
fn a_gray_ramp_survives_the_change_of_range() {
    let ramp: Vec<[u8; 3]> = (0..=255).step_by(5).map(|level| [level; 3]).collect();
    (0..=6).for_each(|method| within_three_levels(Format::Webp, method, &ramp));
    within_three_levels(Format::Jpeg, 0, &ramp);
}

#[test]
fn saturated_colours_survive_the_change_of_range() {
    let corners: Vec<[u8; 3]> =
        (0..8_u8).map(|bits| [bits & 1, bits >> 1 & 1, bits >> 2].map(|bit| bit * 255)).collect();
    (0..=6).for_each(|method| within_three_levels(Format::Webp, method, &corners));
    within_three_levels(Format::Jpeg, 0, &corners);
}

#[test]
fn webp_planes_equal_webp_pixels() {
    let (width, height) = (66, 35);
    let file = encode(&interleaved(&smooth(width, height), width, height), Format::Webp, 95);
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let (mut direct, mut converted) = (Picture::default(), Picture::default());
    let direct = decoder.decode(&source(Format::Webp, &file), PLANES, &mut direct).unwrap();
    let converted = decoder.decode(&source(Format::Webp, &file), ALL, &mut converted).unwrap();
    let (direct, converted) = (direct.planes.unwrap(), converted.planes.unwrap());
    assert!(mean(direct.samples(), converted.samples()) < 1.0);
}

#[test]
fn quality_decides_the_size_and_is_found_again() {
    let pixels = smooth(128, 96);
    let view = interleaved(&pixels, 128, 96);
    for format in [Format::Jpeg, Format::Webp] {
        assert!(encode(&view, format, 30).len() < encode(&view, format, 95).len());
    }
    for quality in [10, 30, 50, 75, 85, 90, 100] {
        assert_eq!(jpeg_quality(&encode(&view, Format::Jpeg, quality)), Some(quality));
    }
}

#[test]
fn black_pictures_stay_black() {
    let pixels = vec![0; 40 * 30 * 3];
    for format in [Format::Jpeg, Format::Webp, Format::Png] {
        let got = decode(format, &encode(&interleaved(&pixels, 40, 30), format, 85));
        assert!(got.iter().all(|&value| value <= 1), "{format:?}");
    }
}

#[test]
fn output_replaces_what_the_buffer_held() {
    let pixels = smooth(16, 16);
    let view = interleaved(&pixels, 16, 16);
    let fresh = encode(&view, Format::Jpeg, 80);
    let mut used = vec![7; 100_000];
    let target = Target { format: Format::Jpeg, quality: 80, webp_method: 0 };
    Encoder::new().unwrap().encode(&view, &target, &mut used).unwrap();
    assert_eq!(used, fresh);
}
