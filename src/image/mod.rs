//! Floor 3: codecs and scaling. All unsafe code of the crate lives here.
//!
//! A [`Decoder`] turns what a camera sent into a [`View`](crate::frame::View) with the forms the
//! caller needs, an [`Encoder`] turns a view into a file, a [`Scaler`] makes the small pictures.
//! Each keeps its scratch memory from frame to frame and belongs to one worker.
//!
//! Pixels are kept as stored: an EXIF orientation is not applied, colour profiles are not read,
//! alpha is ignored.

mod decode;
mod encode;
mod format;
mod markers;
mod png;
mod probe;
mod quality;
mod samples;
mod scale;
mod turbo;
mod webp;

#[cfg(test)]
mod tests;

pub use decode::{Decoder, Needs, Picture};
pub use encode::{Encoder, Target};
pub use format::{Bounds, Format, Header, Source};
pub use probe::probe;
pub use quality::jpeg_quality;
pub use scale::{Placement, Scaler};

use crate::base::error::Fault;

/// Whether this processor can run the codecs as they were compiled.
///
/// Without the feature `native-webp` it always can: libjpeg-turbo chooses its SIMD code at run
/// time and libwebp is built for the baseline.
///
/// # Errors
/// [`Fault::Unusable`] that names the missing instruction sets: libwebp compiled with
/// `native-webp` would die of an illegal instruction.
pub fn supported_cpu() -> Result<(), Fault> {
    let missing = missing_features();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::Unusable(format!(
        "this processor lacks {}, which this program was compiled for (feature native-webp); \
         use a build without that feature",
        missing.join(" and ")
    )))
}

#[cfg(all(feature = "native-webp", any(target_arch = "x86", target_arch = "x86_64")))]
fn missing_features() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !std::arch::is_x86_feature_detected!("sse4.1") {
        missing.push("SSE4.1");
    }
    if !std::arch::is_x86_feature_detected!("avx2") {
        missing.push("AVX2");
    }
    missing
}

#[cfg(not(all(feature = "native-webp", any(target_arch = "x86", target_arch = "x86_64"))))]
fn missing_features() -> Vec<&'static str> {
    Vec::new()
}
