//! Every variant that run-time dispatch can choose gives the same bits.
//!
//! The body of each function is called twice: through its dispatcher, which takes the best variant
//! this processor has, and directly, which is the baseline that the test itself is compiled for.
//! The figures of [`luma_stats`](super::super::luma_stats) have a plain twin as well.

use multiversion::multiversion;
use multiversion::target::match_target;

use super::super::{luma, mixture, reduced, scalar, value};
use super::{Random, plane};

/// What a dispatcher with our targets chooses here.
#[multiversion(targets("x86_64+avx2"))]
fn chosen() -> &'static str {
    match_target! {
        "x86_64+avx2" => "AVX2",
        _ => "baseline",
    }
}

#[test]
fn the_best_variant_of_this_processor_is_chosen_at_run_time() {
    #[cfg(target_arch = "x86_64")]
    let best = if std::arch::is_x86_feature_detected!("avx2") { "AVX2" } else { "baseline" };
    #[cfg(not(target_arch = "x86_64"))]
    let best = "baseline";
    println!("analysis runs as {}", chosen());
    assert_eq!(chosen(), best);
}

fn noise(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| (random.next() >> 24) as u8).collect()
}

#[test]
fn luma_sums_agree() {
    let mut random = Random(11);
    for (width, height) in [(3, 1), (17, 5), (64, 9), (97, 33), (1025, 4), (2051, 3)] {
        let samples = noise(&mut random, width * height);
        let plane = plane(&samples, width, height);
        let dispatched = luma::sums(plane);
        assert_eq!(dispatched, luma::sums_here(plane), "{width} x {height}");
        let twin = scalar::sums(plane);
        assert_eq!(luma::Sums { laplacian: twin.laplacian, ..dispatched }, twin);
    }
}

#[test]
fn sums_of_columns_agree() {
    let mut random = Random(12);
    for (width, height) in [(1, 1), (7, 3), (64, 8), (333, 257)] {
        let samples = noise(&mut random, width * height);
        let plane = plane(&samples, width, height);
        let (mut dispatched, mut baseline) = (vec![0; width], vec![0; width]);
        reduced::sum_columns(plane, 0, height, &mut dispatched);
        reduced::sum_columns_here(plane, 0, height, &mut baseline);
        assert_eq!(dispatched, baseline, "{width} x {height}");
        let column = |x: usize| (0..height).map(|y| u16::from(samples[y * width + x])).sum();
        assert_eq!(dispatched, (0..width).map(column).collect::<Vec<u16>>());
    }
}

#[test]
fn sums_of_the_largest_channel_agree() {
    let mut random = Random(13);
    for pixels in [1, 15, 64, 1024, 1025, 3001] {
        let rgb = noise(&mut random, 3 * pixels);
        let plain = rgb.chunks(3).map(|rgb| u64::from(*rgb.iter().max().unwrap())).sum::<u64>();
        assert_eq!(value::largest_sum(&rgb), plain);
        assert_eq!(value::largest_sum_here(&rgb), plain);

        let rows = [2, 2, 1, 1].map(|samples| noise(&mut random, samples * pixels));
        let [upper, lower, cb, cr] = &rows;
        let dispatched = value::paired_sum(upper, lower, cb, cr);
        assert_eq!(dispatched, value::paired_sum_here(upper, lower, cb, cr), "{pixels}");
    }
}

#[test]
fn background_models_agree_over_time() {
    let mut random = Random(14);
    let count = 5 * mixture::LANES - 9;
    let blocks = count.div_ceil(mixture::LANES);
    let mut models =
        [(); 2].map(|()| vec![mixture::Block::knowing(&[128 << 8; mixture::LANES]); blocks]);
    let mut seen = [(); 2].map(|()| vec![[0; mixture::LANES]; blocks]);
    for frame in 0..200 {
        let levels: Vec<u16> = (0..count)
            .map(|at| {
                let base = if (at + frame / 7) % 11 < 3 { 200 } else { 90 };
                ((base << 8) + (random.next() >> 21)) as u16
            })
            .collect();
        let (rate, dither) = (0.5 / (frame + 1) as f32 + 0.001, frame as f32 * 0.618 % 1.0);
        let [dispatched, baseline] = &mut models;
        let [ours, theirs] = &mut seen;
        let counts = [
            mixture::learn(dispatched, &levels, ours, rate, dither),
            mixture::learn_here(baseline, &levels, theirs, rate, dither),
        ];
        assert_eq!(counts[0], counts[1], "frame {frame}");
        assert!(ours == theirs && dispatched == baseline, "frame {frame}");
    }
}
