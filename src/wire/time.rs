//! Times as producers write them: seconds since the Unix epoch, or ISO 8601.

use jiff::civil;
use jiff::tz::Offset;

/// Seconds since the Unix epoch, from a number or an ISO 8601 date and time. A time without an
/// offset is UTC. `None` for anything else, including infinite numbers.
pub fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let stamp = text.parse::<jiff::Timestamp>().or_else(|_| {
        let local = text.parse::<civil::DateTime>()?;
        Offset::UTC.to_timestamp(local)
    });
    // Microseconds are exact in a double for the next centuries.
    #[allow(clippy::cast_precision_loss)]
    stamp.ok().map(|stamp| stamp.as_microsecond() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_iso_8601_are_read() {
        for text in [
            "1700000000.5",
            " 1700000000.5\n",
            "1.7000000005e9",
            "2023-11-14T22:13:20.5Z",
            "2023-11-14T22:13:20.500000",
            "2023-11-14 22:13:20.5",
            "2023-11-14T23:13:20.5+01:00",
            "2023-11-14T23:13:20.5+0100",
            "20231114T221320.5Z",
            "2023-11-14T22:13:20,5Z",
        ] {
            assert_eq!(seconds(text), Some(1_700_000_000.5), "{text}");
        }
        assert_eq!(seconds("2023-11-14"), Some(1_699_920_000.0));
        assert_eq!(seconds("2023-11-14T22:13Z"), Some(1_699_999_980.0));
        for text in ["", "yesterday", "NaN", "inf", "1e999", "2023-13-14T22:13:20Z", "Infinity"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
