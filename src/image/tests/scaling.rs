use super::*;
use crate::frame::Planes;

/// Planes of one colour.
fn flat(width: usize, height: usize, [y, cb, cr]: [u8; 3]) -> Planes {
    let mut planes = Planes::default();
    planes.reshape(width, height, false);
    let [luma, blue, red] = planes.split_mut();
    luma.fill(y);
    blue.fill(cb);
    red.fill(cr);
    planes
}

#[test]
fn letterbox_is_centred_and_padded() {
    let mut target = Planes::default();
    let mut scaler = Scaler::new();
    for (width, height, x, y, wide, high) in [
        (1920, 1080, 0, 140, 640, 360),
        (640, 480, 0, 80, 640, 480),
        (480, 640, 80, 0, 480, 640),
        (100, 100, 0, 0, 640, 640),
        (1, 1, 0, 0, 640, 640),
        (2000, 1, 0, 318, 640, 2),
        (1279, 719, 0, 140, 640, 360),
    ] {
        let place = scaler.letterbox(&flat(width, height, [200, 90, 30]), 640, 114, &mut target);
        assert_eq!(place, Placement { x, y, width: wide, height: high }, "{width}x{height}");
        assert_eq!((target.width(), target.height()), (640, 640));
        let inside = |column: usize, row: usize, half: usize| {
            (x / half..(x + wide) / half).contains(&column)
                && (y / half..(y + high) / half).contains(&row)
        };
        let [cb, cr] = target.chroma().unwrap();
        let all = [(target.luma(), 1, 200, 114), (cb, 2, 90, 128), (cr, 2, 30, 128)];
        for (plane, half, colour, border) in all {
            for row in 0..plane.height {
                for (column, &sample) in plane.row(row).iter().enumerate() {
                    let want = if inside(column, row, half) { colour } else { border };
                    assert_eq!(sample, want, "{width}x{height} at {column},{row}");
                }
            }
        }
    }
}

#[test]
fn bilinear_aligns_centres() {
    let mut source = Planes::default();
    source.reshape(8, 8, true);
    for (at, sample) in source.samples_mut().iter_mut().enumerate() {
        *sample = (10 * (at % 8) + 20 * (at / 8)) as u8;
    }
    let mut target = Planes::default();
    Scaler::new().letterbox(&source, 4, 114, &mut target);
    for y in 0..4 {
        for x in 0..4 {
            let want = 10 * (2 * x) + 5 + 20 * (2 * y) + 10;
            assert_eq!(usize::from(target.luma().row(y)[x]), want);
        }
    }
    assert!(target.is_gray());
}

/// One sample of a bilinear picture: between rows first, then between columns, in 256ths.
fn bilinear_sample(source: &Planes, x: usize, y: usize, (width, height): (usize, usize)) -> u8 {
    let luma = source.luma();
    let place = |at: usize, from: usize, to: usize| {
        let centre = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let centre = centre.clamp(0.0, (from - 1) as f64);
        let (first, share) = (centre.floor() as usize, (centre.fract() * 256.0).round() as u32);
        (first, (first + 1).min(from - 1), share)
    };
    let mix = |a: u32, b: u32, share: u32| (a * (256 - share) + b * share + 128) >> 8;
    let (upper, lower, down) = place(y, luma.height, height);
    let (left, right, across) = place(x, luma.width, width);
    let column = |at: usize| mix(luma.row(upper)[at].into(), luma.row(lower)[at].into(), down);
    mix(column(left), column(right), across) as u8
}

#[test]
fn whole_fractions_are_scaled_as_all_others() {
    let mut target = Planes::default();
    for times in 1..=7 {
        for (width, height) in [(48 * times, 32 * times), (48 * times, 32 * times + 1)] {
            let mut source = Planes::default();
            source.reshape(width, height, true);
            for (at, sample) in source.samples_mut().iter_mut().enumerate() {
                *sample = (at * 89 % 251) as u8;
            }
            let place = Scaler::new().letterbox(&source, 48, 114, &mut target);
            let size = (place.width, place.height);
            for y in 0..place.height {
                for x in 0..place.width {
                    let got = target.luma().row(place.y + y)[place.x + x];
                    let want = bilinear_sample(&source, x, y, size);
                    assert_eq!(got, want, "{width}x{height} at {x},{y}");
                }
            }
        }
    }
}

/// The planes of a JPEG file.
fn planes_of(file: &[u8]) -> Vec<u8> {
    let mut store = Picture::default();
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let view = decoder.decode(&source(Format::Jpeg, file), PLANES, &mut store).unwrap();
    view.planes.unwrap().samples().to_vec()
}

#[test]
fn coded_rows_give_the_same_letterboxed_picture() {
    let mut encoder = Encoder::new().unwrap();
    let (mut file, mut boxed, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut target = Planes::default();
    let all = [
        (640, 480, 640, false),
        (640, 480, 640, true),
        (640, 640, 640, false),
        (640, 416, 640, false),
        (640, 16, 640, true),
        (64, 32, 64, false),
        (64, 32, 64, false),
    ];
    for (index, (width, height, size, is_gray)) in all.into_iter().enumerate() {
        for (quality, tables) in [
            (30, start_tables(30)),
            (85, standard_tables()),
            (85, start_tables(85)),
            (100, start_tables(100)),
        ] {
            let mut planes = Planes::default();
            planes.reshape(width, height, is_gray);
            for (at, sample) in planes.samples_mut().iter_mut().enumerate() {
                *sample = (at * (31 + index) / 7 % 256) as u8 ^ (at % 13) as u8;
            }
            let channels = if is_gray { 1 } else { 3 };
            let view = View { width, height, channels, interleaved: None, planes: Some(&planes) };
            assert!(keeps_its_rows(&view, size), "{width}x{height}");
            encoder
                .encode_boxed(&view, (quality, tables), (size, 114), &mut file, &mut boxed)
                .unwrap();

            let jpeg = Target { format: Format::Jpeg, quality, webp_method: 0 };
            encoder.encode(&view, &jpeg, &mut plain).unwrap();
            assert!(!plain.windows(2).any(|pair| pair == [0xff, 0xdd]), "no restarts are left on");
            assert!(planes_of(&file) == planes_of(&plain), "{width}x{height}: the picture");

            Scaler::new().letterbox(&planes, size, 114, &mut target);
            let small = View { width: size, height: size, planes: Some(&target), ..view };
            encoder.encode(&small, &jpeg, &mut plain).unwrap();
            assert!(planes_of(&boxed) == planes_of(&plain), "{width}x{height}: letterboxed");
            assert_eq!(jpeg_quality(&boxed), jpeg_quality(&plain));
        }
    }
}

#[test]
fn letterboxed_pictures_of_other_rows_are_refused() {
    for (width, height, size, why) in [
        (640, 360, 640, "its rows begin within a row of blocks"),
        (640, 470, 640, "its last row is no whole one"),
        (1280, 960, 640, "it is scaled"),
        (480, 640, 640, "its bars are at the sides"),
        (638, 640, 640, "they are, though they are thin"),
        (600, 450, 600, "the square does not end with a row"),
    ] {
        let planes = flat(width, height, [1, 2, 3]);
        let view = View { width, height, channels: 3, interleaved: None, planes: Some(&planes) };
        assert!(!keeps_its_rows(&view, size), "{why}");
        let (mut file, mut boxed) = (Vec::new(), Vec::new());
        let both = Encoder::new().unwrap().encode_boxed(
            &view,
            (85, standard_tables()),
            (size, 114),
            &mut file,
            &mut boxed,
        );
        assert!(both.is_err(), "{why}");
    }
}

/// Mean over the covered area in floating point: the definition.
fn area_mean(source: &Planes, x: usize, y: usize, size: usize) -> f64 {
    let luma = source.luma();
    let share = |at: usize, index: usize, from: usize| {
        let scale = from as f64 / size as f64;
        let (start, end) = (index as f64 * scale, (index + 1) as f64 * scale);
        (end.min((at + 1) as f64) - start.max(at as f64)).max(0.0)
    };
    let (mut sum, mut total) = (0.0, 0.0);
    for row in 0..luma.height {
        for (column, &sample) in luma.row(row).iter().enumerate() {
            let weight = share(row, y, luma.height) * share(column, x, luma.width);
            sum += weight * f64::from(sample);
            total += weight;
        }
    }
    sum / total
}

#[test]
fn thumbnails_are_area_means() {
    let mut target = Planes::default();
    let whole = [5, 8, 10, 15, 20, 30].map(|times| (8 * times, 31));
    for (width, height) in [(64, 48), (45, 31), (8, 8), (5, 3), (1, 1)].into_iter().chain(whole) {
        let mut source = Planes::default();
        source.reshape(width, height, true);
        for (at, sample) in source.samples_mut().iter_mut().enumerate() {
            *sample = (at * 37 % 256) as u8;
        }
        Scaler::new().thumbnail(&source, 8, &mut target);
        for y in 0..8 {
            for x in 0..8 {
                let got = f64::from(target.luma().row(y)[x]);
                let want = area_mean(&source, x, y, 8);
                assert!((got - want).abs() <= 0.5 + 1e-6, "{width}x{height}: {got} {want}");
            }
        }
    }
}

#[test]
fn thumbnails_keep_colour_and_size() {
    let mut target = Planes::default();
    Scaler::new().thumbnail(&flat(641, 479, [77, 99, 180]), 128, &mut target);
    assert_eq!((target.width(), target.height(), target.chroma_width()), (128, 128, 64));
    let [cb, cr] = target.chroma().unwrap();
    assert!(target.luma().samples.iter().all(|&y| y == 77));
    assert!(cb.samples.iter().all(|&value| value == 99));
    assert!(cr.samples.iter().all(|&value| value == 180));
}

/// A plane scaled by `fast_image_resize`.
fn by_library(
    source: &Planes,
    algorithm: fast_image_resize::ResizeAlg,
    (width, height): (usize, usize),
) -> Vec<u8> {
    use fast_image_resize::{PixelType, ResizeOptions, Resizer, images};
    let luma = source.luma();
    let (wide, high) = (luma.width as u32, luma.height as u32);
    let source = images::ImageRef::new(wide, high, luma.samples, PixelType::U8).unwrap();
    let mut target = images::Image::new(width as u32, height as u32, PixelType::U8);
    let options = ResizeOptions::new().resize_alg(algorithm);
    Resizer::new().resize(&source, &mut target, &options).unwrap();
    target.into_vec()
}

#[test]
fn both_small_pictures_are_those_of_a_library() {
    use fast_image_resize::{FilterType, ResizeAlg};
    for (width, height, fitted) in
        [(1280, 720, (640, 360)), (768, 432, (640, 360)), (300, 400, (480, 640))]
    {
        let mut source = Planes::default();
        source.reshape(width, height, true);
        source.samples_mut().copy_from_slice(&gray(width, height));
        let mut target = Planes::default();

        let place = Scaler::new().letterbox(&source, 640, 114, &mut target);
        assert_eq!((place.width, place.height), fitted);
        let bilinear = ResizeAlg::Interpolation(FilterType::Bilinear);
        let theirs = by_library(&source, bilinear, fitted);
        let rows = target.luma().samples.chunks(640).skip(place.y).take(place.height);
        let ours: Vec<u8> = rows.flat_map(|row| &row[place.x..][..place.width]).copied().collect();
        assert!(worst(&ours, &theirs) <= 1, "{width}x{height}: {}", worst(&ours, &theirs));

        Scaler::new().thumbnail(&source, 128, &mut target);
        let theirs = by_library(&source, ResizeAlg::Convolution(FilterType::Box), (128, 128));
        // Its box filter takes only whole samples; ours weights partial samples.
        let ours = target.luma().samples;
        assert!(mean(ours, &theirs) <= 1.0, "{width}x{height}: {}", mean(ours, &theirs));
    }
}
