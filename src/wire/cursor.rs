//! A borrowing reader of the protobuf wire format.
//!
//! Format: <https://protobuf.dev/programming-guides/encoding/>. prost copies every `bytes` field
//! into a separate vector. For a raw 1080p frame that copy costs more than decoding the rest of the
//! message, hence this reader. A property test compares it with prost.

/// Deepest nesting of groups that is skipped.
const GROUP_DEPTH_MAX: usize = 32;

/// A field value as encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
    Group,
}

/// What is wrong with the bytes.
pub(super) type Malformed = &'static str;

/// Iterates over the fields of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Fields { rest: bytes }
    }

    /// The next field number and its value; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, kind) = self.tag()?;
        let value = self.value(number, kind, 0)?;
        Ok(Some((number, value)))
    }

    /// Advances to the content of the next length-delimited field `number`, and returns its length.
    /// The content itself may be cut off.
    pub(super) fn enter(&mut self, number: u32) -> Result<usize, Malformed> {
        loop {
            let (found, kind) = self.tag()?;
            if (found, kind) == (number, 2) {
                return usize::try_from(self.varint()?).map_err(|_| "length out of range");
            }
            self.value(found, kind, 0)?;
        }
    }

    /// Number of bytes left.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| "field tag out of range")?;
        let number = tag >> 3;
        if number == 0 {
            return Err("field number 0");
        }
        Ok((number, (tag & 7) as u8))
    }

    fn value(&mut self, number: u32, kind: u8, depth: usize) -> Result<Value<'a>, Malformed> {
        Ok(match kind {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| "length out of range")?;
                Value::Bytes(self.take(len)?)
            }
            3 => {
                if depth == GROUP_DEPTH_MAX {
                    return Err("groups nested too deeply");
                }
                loop {
                    let (inner, kind) = self.tag()?;
                    if kind == 4 {
                        if inner == number {
                            break;
                        }
                        return Err("group ends that never began");
                    }
                    self.value(inner, kind, depth + 1)?;
                }
                Value::Group
            }
            5 => {
                self.array::<4>()?;
                Value::Fixed32
            }
            _ => return Err("unknown wire type"),
        })
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    return Err("varint out of range");
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { "cut off within a number" } else { "varint out of range" })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or("cut off within a field")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or("cut off within a number")?;
        self.rest = rest;
        Ok(*taken)
    }
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err("a field has the wrong type"),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a string is not UTF-8")
    }

    pub(super) fn double(self) -> Result<f64, Malformed> {
        match self {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err("a field has the wrong type"),
        }
    }

    #[allow(clippy::cast_possible_truncation)] // an int32 varint; the upper half is ignored
    pub(super) fn int32(self) -> Result<i32, Malformed> {
        match self {
            Value::Varint(value) => Ok(value as i32),
            _ => Err("a field has the wrong type"),
        }
    }
}
