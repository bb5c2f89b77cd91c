//! Every variant that run-time dispatch can choose gives the same bits.
//!
//! The body of each function runs three times: through its dispatcher, which takes the best variant
//! for this processor; through a dispatcher for AVX2 only, if the function has a better variant;
//! and directly, as compiled for the baseline of the test. The figures of
//! [`luma_stats`](super::super::luma_stats) have a plain twin as well.

use multiversion::multiversion;
use multiversion::target::match_target;

use super::super::{luma, mixture, scalar, sums, value};
use super::{Random, plane};
use crate::frame::Plane;

/// What a dispatcher with these targets chooses here.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi2", "x86_64+avx2"))]
fn chosen() -> &'static str {
    match_target! {
        "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi2" => "AVX-512",
        "x86_64+avx2" => "AVX2",
        _ => "baseline",
    }
}

#[test]
fn the_best_variant_of_this_processor_is_chosen_at_run_time() {
    #[cfg(target_arch = "x86_64")]
    let best = if std::arch::is_x86_feature_detected!("avx512vbmi2") {
        "AVX-512"
    } else if std::arch::is_x86_feature_detected!("avx2") {
        "AVX2"
    } else {
        "baseline"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let best = "baseline";
    println!("analysis runs as {}", chosen());
    assert_eq!(chosen(), best);
}

// A dispatcher without the first target. On a processor with AVX-512 the AVX2 variant would not run
// otherwise.

#[multiversion(targets("x86_64+avx2"))]
fn sums_second(luma: Plane<'_>) -> sums::Sums {
    luma::sums_here(luma)
}

#[multiversion(targets("x86_64+avx2"))]
fn paired_sum_second(upper: &[u8], lower: &[u8], cb: &[u8], cr: &[u8]) -> u64 {
    value::paired_sum_here(upper, lower, cb, cr)
}

#[multiversion(targets("x86_64+avx2"))]
fn learn_second(
    blocks: &mut [mixture::Block],
    levels: &[u16],
    rate: f32,
    dither: f32,
) -> mixture::Compared {
    mixture::learn_here(blocks, levels, rate, dither)
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
        assert_eq!(dispatched, sums_second(plane), "{width} x {height}");
        assert_eq!(dispatched, luma::sums_here(plane), "{width} x {height}");
        let twin = scalar::sums(plane);
        assert_eq!(sums::Sums { laplacian: twin.laplacian, ..dispatched }, twin);
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
        assert_eq!(dispatched, paired_sum_second(upper, lower, cb, cr), "{pixels}");
        assert_eq!(dispatched, value::paired_sum_here(upper, lower, cb, cr), "{pixels}");
    }
}

#[test]
fn background_models_agree_over_time() {
    let mut random = Random(14);
    let count = 5 * mixture::LANES - 9;
    let blocks = count.div_ceil(mixture::LANES);
    let mut models =
        [(); 3].map(|()| vec![mixture::Block::knowing(&[128 << 8; mixture::LANES]); blocks]);
    for frame in 0..200 {
        let levels: Vec<u16> = (0..count)
            .map(|at| {
                let base = if (at + frame / 7) % 11 < 3 { 200 } else { 90 };
                ((base << 8) + (random.next() >> 21)) as u16
            })
            .collect();
        let (rate, dither) = (0.5 / (frame + 1) as f32 + 0.001, frame as f32 * 0.618 % 1.0);
        let [first, second, baseline] = &mut models;
        let compared = [
            mixture::learn(first, &levels, rate, dither),
            learn_second(second, &levels, rate, dither),
            mixture::learn_here(baseline, &levels, rate, dither),
        ];
        assert!(compared[0] == compared[1] && compared[0] == compared[2], "frame {frame}");
        assert!(first == second && first == baseline, "frame {frame}");
    }
}
