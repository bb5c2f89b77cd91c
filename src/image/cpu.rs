//! Checks that this processor can run the codecs as compiled.

use crate::base::error::Fault;

/// Checks that this processor can run the codecs as compiled.
///
/// Without the feature `native-webp` the check always succeeds: libjpeg-turbo chooses its SIMD code
/// at run time and libwebp is built for the baseline.
///
/// [`Fault::Unusable`], which names the missing instruction sets. libwebp compiled with
/// `native-webp` would otherwise crash with an illegal instruction.
pub fn supported_cpu() -> Result<(), Fault> {
    all_there(&required())
}

/// The instruction sets the codecs were compiled for beyond the baseline, and whether this
/// processor has them.
fn required() -> Vec<(&'static str, bool)> {
    #[cfg(all(feature = "native-webp", any(target_arch = "x86", target_arch = "x86_64")))]
    return vec![
        ("SSE4.1", std::arch::is_x86_feature_detected!("sse4.1")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
    ];
    #[cfg(not(all(feature = "native-webp", any(target_arch = "x86", target_arch = "x86_64"))))]
    Vec::new()
}

fn all_there(required: &[(&'static str, bool)]) -> Result<(), Fault> {
    let missing: Vec<_> =
        required.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::Unusable(format!(
        "this processor lacks {}, which this program was compiled for (feature native-webp); \
         use a build without that feature",
        missing.join(" and ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_lacks_something_is_refused_by_name() {
        let said = |sse: bool, avx: bool| {
            all_there(&[("SSE4.1", sse), ("AVX2", avx)]).map_err(|fault| fault.to_string())
        };
        assert_eq!(said(true, true), Ok(()));
        let message = said(true, false).unwrap_err();
        assert!(message.contains("lacks AVX2, which") && message.contains("native-webp"));
        assert!(said(false, false).unwrap_err().contains("lacks SSE4.1 and AVX2, which"));
    }

    #[test]
    fn only_native_builds_require_anything() {
        let native = cfg!(feature = "native-webp") && cfg!(target_arch = "x86_64");
        assert_eq!(!required().is_empty(), native);
        let here = required().iter().all(|(_, there)| *there);
        assert_eq!(supported_cpu().is_ok(), here);
    }
}
