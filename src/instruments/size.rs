//! Frame sizes such as `640x480`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::camera::SIDE_MAX;

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// 640x480.
    pub const VGA: Size = Size { width: 640, height: 480 };
    /// 1920x1080.
    pub const HD: Size = Size { width: 1920, height: 1080 };

    /// Bytes of a frame as interleaved RGB.
    pub fn raw_bytes(self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * 3
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let side = |text: &str| text.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side));
        text.split_once(['x', 'X'])
            .and_then(|(width, height)| Some(Size { width: side(width)?, height: side(height)? }))
            .ok_or_else(|| {
                format!("WIDTHxHEIGHT in pixels, each from 1 to {SIDE_MAX}, as in 640x480")
            })
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_two_positive_numbers() {
        assert_eq!("640x480".parse(), Ok(Size { width: 640, height: 480 }));
        for wrong in ["", "640", "640x", "0x480", "640x480x3", "-1x2", "99999x1"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
