//! Statistics of pictures of similar quality.

use super::{AC_MAX, DC_MAX};

/// Expected statistics of pictures in a band of quality.
#[derive(Debug, PartialEq, Eq)]
pub struct Band {
    /// The last quality of the band.
    pub quality_max: u8,
    /// How rare each DC symbol is, for luma and chroma, in quarters of a bit.
    pub dc: [[u8; DC_MAX]; 2],
    /// How rare each AC symbol is, in the same unit and in the order of [`ac_symbols`](super::ac_symbols).
    pub ac: [[u8; AC_MAX]; 2],
}
