//! Shared by the benchmarks of codecs and analysis: frames, the bare libraries, and alternating
//! comparisons.
#![allow(dead_code, reason = "each benchmark uses its own part of it")]

pub mod alternation;
pub mod bare;
pub mod frames;

use framepress::internals::image::{Bounds, Format, Needs, Target};

/// The program's own allocator, for both sides.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub const BOUNDS: Bounds = Bounds { pixels_max: 1 << 25 };
pub const PLANES: Needs = Needs { planes: true, interleaved: false };
pub const PIXELS: Needs = Needs { planes: false, interleaved: true };
/// Whichever costs least.
pub const EITHER: Needs = Needs { planes: false, interleaved: false };

/// Quality of every JPEG and WebP here: the default of the configuration.
pub const QUALITY: u8 = 85;

pub fn target(format: Format) -> Target {
    Target { format, quality: QUALITY, webp_method: 1 }
}
