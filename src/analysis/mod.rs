//! Floor 3: figures computed from planes, as plain functions over slices.
//!
//! Nothing here reads a clock, logs, or knows streams and cameras: the stage above passes planes
//! and a time, and gets numbers. There are two groups:
//! - of a single picture: [`luma_stats`], [`quality()`], [`mean_value`], [`lighting`], [`weather`],
//!   [`region_luma`];
//! - against the past of one camera: [`Reduced`] and [`Background`], which give density and motion.
//!
//! All sums are integers, so every instruction set gives the same bits. Once the shape of the
//! picture is known, nothing here allocates. A picture without pixels gives zeros.

mod background;
mod classes;
mod luma;
mod mixture;
mod quality;
mod reduced;
mod region;
pub mod scalar;
mod sums;
#[cfg(test)]
mod tests;
mod value;

pub use background::{Activity, Background, RECOVERY_SECONDS, STOPPED_SECONDS};
pub use classes::{Congestion, Lighting, Weather, congestion, lighting, weather};
pub use luma::luma_stats;
pub use quality::{Quality, quality};
pub use reduced::Reduced;
pub use region::{RegionBox, region_luma};
pub use sums::LumaStats;
pub use value::{mean_value, mean_value_rgb};
