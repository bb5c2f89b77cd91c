//! Tests of synthetic frames.

use super::*;
use crate::camera::Still;

fn camera(width: u32, height: u32, camera: u32) -> Synthetic {
    Synthetic::new(SyntheticOptions { width, height, camera, ..Default::default() }).unwrap()
}

fn mean(bytes: &[u8]) -> f64 {
    bytes.iter().map(|&value| f64::from(value)).sum::<f64>() / bytes.len() as f64
}

#[test]
fn equal_options_give_equal_bytes_and_other_ones_do_not() {
    let (mut one, mut same, mut other) =
        (camera(320, 240, 3), camera(320, 240, 3), camera(320, 240, 4));
    let (mut a, mut b, mut c) = (Still::default(), Still::default(), Still::default());
    for _ in 0..20 {
        assert!(
            one.next(&mut a).unwrap() && same.next(&mut b).unwrap() && other.next(&mut c).unwrap()
        );
        assert!(a.bytes == b.bytes && a.vehicle_share == b.vehicle_share);
        assert!(a.bytes != c.bytes);
    }
}

#[test]
fn every_size_is_filled_exactly() {
    for (width, height) in [(320, 240), (640, 480), (1920, 1080), (101, 67), (67, 101), (1, 1)] {
        let mut still = Still::default();
        let mut source = camera(width, height, 0);
        for _ in 0..3 {
            assert!(source.next(&mut still).unwrap());
            assert_eq!(still.bytes.len(), (width * height * 3) as usize);
        }
        assert_eq!((still.width, still.height, still.channels), (width, height, 3));
        assert_eq!(still.coding, Coding::Rgb);
    }
}

#[test]
fn sizes_and_rates_that_cannot_be_are_refused() {
    let options = SyntheticOptions::default();
    for bad in [
        SyntheticOptions { width: 0, ..options },
        SyntheticOptions { height: SIDE_MAX + 1, ..options },
        SyntheticOptions { fps: f64::NAN, ..options },
        SyntheticOptions { fps: 0.0, ..options },
    ] {
        assert!(matches!(Synthetic::new(bad), Err(Fault::Unusable(_))), "{bad:?}");
    }
}

/// Paints the same traffic over black and over white: only vehicle pixels are equal on both. Uses
/// daylight, so that no lamp glows.
#[test]
fn the_share_is_that_of_the_pixels_through_which_no_ground_is_seen() {
    for number in 0..4 {
        let mut source = camera(640, 480, number);
        let noon = Light::at(0.5);
        let (mut black, mut white) = (vec![0; 640 * 480 * 3], vec![255; 640 * 480 * 3]);
        source.paint_vehicles(&mut black, noon);
        source.paint_vehicles(&mut white, noon);
        let covered = black.chunks(3).zip(white.chunks(3)).map(|(black, white)| black == white);
        // An edge pixel is partly covered; it counts as vehicle if at least half is.
        let unlike = source.mask.iter().zip(covered).filter(|(mask, seen)| (**mask == 1) != *seen);
        let (unlike, marked) = (unlike.count(), source.mask.iter().filter(|&&m| m == 1).count());
        assert!(marked > 1000 && unlike * 8 < marked, "camera {number}: {unlike} of {marked}");
        let mut still = Still::default();
        camera(640, 480, number).next(&mut still).unwrap();
        assert_eq!(still.vehicle_share, Some((marked as f64 / (640.0 * 480.0)) as f32));
    }
}

#[test]
fn traffic_comes_and_goes_and_so_does_the_day() {
    let options = SyntheticOptions { width: 160, height: 120, fps: 1.0, ..Default::default() };
    let (mut shares, mut lights) = (Vec::new(), Vec::new());
    let mut source = Synthetic::new(options).unwrap();
    let mut still = Still::default();
    for _ in 0..DAY_SECONDS as usize {
        source.next(&mut still).unwrap();
        shares.push(still.vehicle_share.unwrap());
        lights.push(mean(&still.bytes));
    }
    shares.sort_by(f32::total_cmp);
    let share = |percent: usize| shares[shares.len() * percent / 100];
    assert!(
        share(5) < 0.06 && share(50) > 0.03 && share(95) < 0.45,
        "{} {} {}",
        share(5),
        share(50),
        share(95)
    );
    assert!(share(90) > 1.5 * share(20), "{} {}", share(20), share(90));
    let (darkest, brightest) = lights
        .iter()
        .fold((255.0f64, 0.0f64), |(low, high), &mean| (low.min(mean), high.max(mean)));
    assert!(darkest < 50.0 && brightest > 95.0, "{darkest} to {brightest}");
}

#[test]
fn storage_is_kept_from_frame_to_frame() {
    let mut source = camera(320, 240, 0);
    let mut still = Still::default();
    source.next(&mut still).unwrap();
    let place = still.bytes.as_ptr();
    for _ in 0..50 {
        source.next(&mut still).unwrap();
    }
    assert_eq!(still.bytes.as_ptr(), place);
}
