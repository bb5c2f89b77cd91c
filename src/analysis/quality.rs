//! Scores of one picture, 0 to 1, from its raw figures.

use super::sums::LumaStats;

/// The five figures of the `QualityMetrics` message, each 0 to 1; higher is better.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// 0.3 blur + 0.25 brightness + 0.25 contrast + 0.2 noise.
    pub quality_score: f32,
    /// Sharpness: `min(1, laplacian variance / 1000)`.
    pub blur_score: f32,
    /// 1 for a mean luma of 30 to 220; below and above, lower by 1 per 100 levels.
    pub brightness_score: f32,
    /// `min(1, standard deviation of luma / 80)`.
    pub contrast_score: f32,
    /// Absence of noise: `max(0, 1 - high-pass standard deviation / 50)`.
    pub noise_level: f32,
}

/// Scores from raw figures, by the formulas of the Python system.
///
/// A picture without pixels scores 0 throughout.
pub fn quality(stats: &LumaStats) -> Quality {
    if stats.pixels == 0 {
        return Quality::default();
    }
    let blur = (stats.laplacian_variance / 1000.0).min(1.0);
    let distance = (30.0 - stats.mean_luma).max(stats.mean_luma - 220.0).max(0.0);
    let brightness = (1.0 - distance / 100.0).max(0.0);
    let contrast = (stats.std_luma / 80.0).min(1.0);
    let noise = (1.0 - stats.high_pass_std / 50.0).max(0.0);
    let score = 0.3 * blur + 0.25 * brightness + 0.25 * contrast + 0.2 * noise;
    Quality {
        quality_score: score.clamp(0.0, 1.0) as f32,
        blur_score: blur as f32,
        brightness_score: brightness as f32,
        contrast_score: contrast as f32,
        noise_level: noise as f32,
    }
}
