//! `image_array` of legacy JSON: rows of pixels, read directly into interleaved pixels.
//!
//! Accepts what `numpy.array(..., dtype=uint8)` accepts: H x W, H x W x 1 and H x W x 3, with
//! integers, floats (truncated) and booleans.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Unexpected, Visitor};

/// Size of a picture.
#[derive(Clone, Copy, Default)]
pub(super) struct RowShape {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
}

/// Reads `image_array` directly into interleaved pixels.
pub(super) struct Rows<'s> {
    pub pixels: &'s mut Vec<u8>,
    pub pixels_max: usize,
    pub too_large: &'s mut bool,
    pub shape: RowShape,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = Option<RowShape>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = Option<RowShape>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows of pixels")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<Self::Value, A::Error> {
        while rows.next_element_seed(Row(&mut self))?.is_some() {
            self.shape.height += 1;
        }
        if self.shape.height == 0 {
            return Err(de::Error::invalid_length(0, &"at least one row"));
        }
        Ok(Some(self.shape))
    }
}

struct Row<'r, 's>(&'r mut Rows<'s>);

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row of pixels")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        let rows = self.0;
        let mut width = 0;
        while row.next_element_seed(Pixel(rows))?.is_some() {
            width += 1;
            if rows.pixels.len() / rows.shape.channels.max(1) > rows.pixels_max {
                *rows.too_large = true;
                return Err(de::Error::custom("too many pixels"));
            }
        }
        if rows.shape.height == 0 && width > 0 {
            rows.shape.width = width;
        } else if width != rows.shape.width || width == 0 {
            return Err(de::Error::custom("image_array is ragged: its rows differ in length"));
        }
        Ok(())
    }
}

struct Pixel<'r, 's>(&'r mut Rows<'s>);

impl Pixel<'_, '_> {
    fn put<E>(&mut self, sample: u8) -> Result<(), E> {
        self.0.pixels.push(sample);
        Ok(())
    }

    fn channels<E: de::Error>(&mut self, channels: usize) -> Result<(), E> {
        match self.0.shape.channels {
            0 => self.0.shape.channels = channels,
            same if same == channels => {}
            _ => return Err(E::custom("image_array mixes gray and colour pixels")),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Pixel<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pixel<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pixel: three numbers or one, each from 0 to 255")
    }

    fn visit_u64<E: de::Error>(mut self, value: u64) -> Result<(), E> {
        self.channels(1)?;
        self.put(sample(value)?)
    }

    fn visit_f64<E: de::Error>(mut self, value: f64) -> Result<(), E> {
        self.channels(1)?;
        self.put(truncated(value)?)
    }

    fn visit_bool<E: de::Error>(mut self, value: bool) -> Result<(), E> {
        self.channels(1)?;
        self.put(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut samples: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(Sample(value)) = samples.next_element()? {
            if count == 3 {
                return Err(de::Error::invalid_length(4, &"three numbers"));
            }
            self.put(value)?;
            count += 1;
        }
        match count {
            1 | 3 => self.channels(count),
            _ => Err(de::Error::invalid_length(count, &"one or three numbers")),
        }
    }
}

/// One number of a pixel.
struct Sample(u8);

impl<'de> de::Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SampleVisitor;
        impl Visitor<'_> for SampleVisitor {
            type Value = Sample;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 255")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Sample, E> {
                sample(value).map(Sample)
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Sample, E> {
                truncated(value).map(Sample)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Sample, E> {
                Ok(Sample(value.into()))
            }
        }
        deserializer.deserialize_any(SampleVisitor)
    }
}

fn sample<E: de::Error>(value: u64) -> Result<u8, E> {
    u8::try_from(value)
        .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &"a number from 0 to 255"))
}

/// Truncates a float to 8 bits as NumPy does.
fn truncated<E: de::Error>(value: f64) -> Result<u8, E> {
    if (0.0..256.0).contains(&value) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within range
        return Ok(value as u8);
    }
    Err(E::invalid_value(Unexpected::Float(value), &"a number from 0 to 255"))
}
