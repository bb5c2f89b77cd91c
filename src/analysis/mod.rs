//! Floor 3: figures computed from planes; plain functions over slices.
//!
//! Nothing here reads a clock, logs, or knows of streams and cameras: the stage above hands in
//! planes and a time, and gets numbers. Two groups:
//! - of one picture alone: [`luma_stats`], [`quality`], [`mean_value`], [`lighting`], [`weather`],
//!   [`region_luma`];
//! - against the past of one camera: [`Reduced`] and [`Background`], giving density and motion.
//!
//! Sums are integers from end to end, so every instruction set gives the same bits. Once the shape
//! of the picture is known, nothing here allocates. A picture without pixels is all zeros.

mod background;
mod classes;
mod luma;
mod mixture;
mod quality;
mod reduced;
mod region;
pub mod scalar;
#[cfg(test)]
mod tests;
mod value;

pub use background::{Activity, Background, RECOVERY_SECONDS, STOPPED_SECONDS};
pub use classes::{Congestion, Lighting, Weather, congestion, lighting, weather};
pub use luma::{LumaStats, luma_stats};
pub use quality::{Quality, quality};
pub use reduced::Reduced;
pub use region::{RegionBox, region_luma};
pub use value::{mean_value, mean_value_rgb};
