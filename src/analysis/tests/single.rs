//! Figures of one picture: the vector code against its twin, and the smallest pictures.

use super::super::*;
use super::{Random, plane, planes_from_rgb};
use crate::frame::Planes;

#[test]
fn vector_code_and_plain_twin_agree_to_the_bit() {
    let mut random = Random(0x9e37_79b9);
    let sizes = [1, 2, 3, 4, 5, 15, 16, 17, 18, 33, 64, 65, 97];
    for width in sizes {
        for height in [1, 2, 3, 4, 7] {
            agree(&mut random, width, height);
        }
    }
    for width in [1023, 1024, 1025, 1026, 1027, 2049, 2051] {
        agree(&mut random, width, 5);
    }
}

fn agree(random: &mut Random, width: usize, height: usize) {
    let noise: Vec<u8> = (0..width * height).map(|_| (random.next() >> 24) as u8).collect();
    let extreme: Vec<u8> = noise.iter().map(|&v| if v < 128 { 0 } else { 255 }).collect();
    for samples in [noise, extreme] {
        let plane = plane(&samples, width, height);
        assert_eq!(luma_stats(plane), scalar::luma_stats(plane), "{width} x {height}");
    }
}

#[test]
fn the_loudest_picture_overflows_nothing() {
    let (width, height) = (4099, 6);
    let samples: Vec<u8> = (0..width * height)
        .map(|i| if (i % width + i / width) % 2 == 0 { 255 } else { 0 })
        .collect();
    let plane = plane(&samples, width, height);
    let stats = luma_stats(plane);
    assert_eq!(stats, scalar::luma_stats(plane));
    assert!(stats.laplacian_variance > 1_030_000.0, "{stats:?}");
}

#[test]
fn a_single_pixel_has_a_mean_and_no_structure() {
    let stats = luma_stats(plane(&[124], 1, 1));
    let expected = LumaStats { pixels: 1, mean_luma: 124.0, ..LumaStats::default() };
    assert_eq!(stats, expected);
    let planes = planes_from_rgb(&[200, 100, 50], 1, 1);
    assert!((mean_value(&planes) - 200.0).abs() <= 1.5);
    assert_eq!(mean_value_rgb(&[200, 100, 50], 1, 1), 200.0);
}

#[test]
fn a_line_has_no_structure_across_itself() {
    // Mirrored neighbours: 20 10 20 | 10 20 40 | 20 40 20.
    let line = [10, 20, 40];
    let laplacians = [20.0, 10.0, -40.0];
    let mean = laplacians.iter().sum::<f64>() / 3.0;
    let variance = laplacians.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 3.0;
    for (width, height) in [(3, 1), (1, 3)] {
        let stats = luma_stats(plane(&line, width, height));
        assert!((stats.laplacian_variance - variance).abs() < 1e-9, "{stats:?}");
    }
}

#[test]
fn nothing_is_all_zeros() {
    let stats = luma_stats(plane(&[], 0, 0));
    assert_eq!(stats, LumaStats::default());
    assert_eq!(quality(&stats), Quality::default());
    assert_eq!(mean_value_rgb(&[], 0, 0), 0.0);
    assert_eq!(mean_value(&Planes::default()), 0.0);
    let mut reduced = Reduced::new();
    reduced.fill(plane(&[], 0, 0));
    assert_eq!(Background::new().update(&reduced, 1.0), Activity::default());
}

#[test]
fn all_black_is_dark_but_free_of_noise() {
    let stats = luma_stats(plane(&[0; 96 * 64], 96, 64));
    assert_eq!((stats.mean_luma, stats.std_luma, stats.laplacian_variance), (0.0, 0.0, 0.0));
    let quality = quality(&stats);
    assert_eq!((quality.blur_score, quality.noise_level), (0.0, 1.0));
    assert!((quality.quality_score - 0.375).abs() < 1e-6);
    assert_eq!(lighting(stats.mean_luma).name(), "dark");
}

#[test]
fn value_at_chroma_resolution_follows_saturated_colours() {
    for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [30, 200, 90]] {
        let rgb = colour.repeat(31 * 17);
        let exact = mean_value_rgb(&rgb, 31, 17);
        let ours = mean_value(&planes_from_rgb(&rgb, 31, 17));
        assert!((ours - exact).abs() <= 1.5, "{colour:?}: {ours}, exactly {exact}");
    }
}

#[test]
fn classes_change_at_their_written_limits() {
    let lights = [180.1, 180.0, 100.0, 50.0].map(|v| lighting(v).name());
    assert_eq!(lights, ["bright", "normal", "dim", "dark"]);
    let roads = [0.6, 0.59, 0.29, 0.09].map(|d| congestion(d).name());
    assert_eq!(roads, ["high", "medium", "low", "free_flow"]);
    let skies = [(99.0, 29.0), (79.0, 30.0), (80.0, 61.0), (80.0, 60.0), (100.0, 29.0)]
        .map(|(mean, std)| weather(mean, std).name());
    assert_eq!(skies, ["foggy", "overcast", "clear", "partly_cloudy", "partly_cloudy"]);
}

#[test]
fn box_averages_include_the_cut_off_edges() {
    // 321 wide: boxes of 3, the last row of boxes two high; 320: boxes of 2.
    for (width, height, size) in [(321, 5, (107, 2)), (320, 3, (160, 2)), (1, 1, (1, 1))] {
        let samples: Vec<u8> = (0..width * height).map(|i| (i % width / 3 % 200) as u8).collect();
        let mut reduced = Reduced::new();
        reduced.fill(plane(&samples, width, height));
        assert_eq!(reduced.size(), size);
        if width == 321 {
            let expected: Vec<u16> = (0..214).map(|i| (i % 107 * 256) as u16).collect();
            assert_eq!(reduced.samples(), expected);
        }
    }
}

#[test]
fn box_averages_survive_bands_taller_than_their_16_bit_sums() {
    let (width, height) = (160 * 300, 300);
    let samples = vec![255; width * height];
    let mut reduced = Reduced::new();
    reduced.fill(plane(&samples, width, height));
    assert!(reduced.samples().iter().all(|&v| v == 255 * 256));
}

#[test]
fn a_region_is_clipped_to_the_picture() {
    let samples: Vec<u8> = (0..100).map(|i| if i % 10 < 5 { 10 } else { 30 }).collect();
    let plane = plane(&samples, 10, 10);
    let luma = |x, y, width, height| region_luma(plane, &RegionBox { x, y, width, height });
    assert_eq!(luma(0, 0, 10, 10), 20.0);
    assert_eq!(luma(-5, -5, 10, 100), 10.0);
    assert_eq!(luma(5, 9, 1000, 1000), 30.0);
    assert_eq!(luma(i32::MAX, 0, i32::MAX, 5), 0.0);
    assert_eq!(luma(i32::MIN, 0, i32::MAX, 5), 0.0);
    assert_eq!(luma(3, 3, 0, 5), 0.0);
    assert_eq!(luma(3, 3, 5, -1), 0.0);
}
