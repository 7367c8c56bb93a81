//! Quantities with units, such as `"1m30s"`, `"20 Mbit/s"`, `"8 GB"` and `"2 TFLOP/s"`.
//!
//! Each quantity is rounded once, when it is read, to an integer number of its base unit.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Error for a text that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read `{text}` as {kind}: write it like {example}")]
pub struct QuantityError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

macro_rules! quantity {
    ($(#[$meta:meta])* $name:ident, $kind:literal, $example:literal, $units:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl FromStr for $name {
            type Err = QuantityError;

            fn from_str(text: &str) -> Result<Self, QuantityError> {
                parse(text, $units)
                    .map(Self)
                    .ok_or_else(|| QuantityError { text: text.to_owned(), kind: $kind, example: $example })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_largest(f, self.0, $units)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "title": concat!($kind, " such as ", $example) })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Names of units from small to large, each with its size in base units.
type Units = &'static [(&'static str, u64)];

const K: u64 = 1_000;
const M: u64 = K * K;
const G: u64 = M * K;
const T: u64 = G * K;
const P: u64 = T * K;

quantity! {
    /// [ns] -- Span of virtual time.
    Duration, "a duration", "\"1m30s\", \"250ms\" or \"2h\"",
    &[("ns", 1), ("us", K), ("ms", M), ("s", G), ("m", 60 * G), ("h", 3_600 * G), ("d", 86_400 * G)]
}

quantity! {
    /// [bit/s] -- Data rate.
    Rate, "a data rate", "\"20 Mbit/s\"",
    &[("bit/s", 1), ("kbit/s", K), ("Mbit/s", M), ("Gbit/s", G), ("Tbit/s", T)]
}

quantity! {
    /// [byte] -- Amount of data.
    Bytes, "a size", "\"8 GB\" or \"512 MiB\"",
    &[("B", 1), ("kB", K), ("KiB", 1 << 10), ("MB", M), ("MiB", 1 << 20), ("GB", G), ("GiB", 1 << 30), ("TB", T)]
}

quantity! {
    /// [byte/s] -- Memory bandwidth.
    Bandwidth, "a memory bandwidth", "\"100 GB/s\"",
    &[("B/s", 1), ("kB/s", K), ("MB/s", M), ("GB/s", G), ("TB/s", T)]
}

quantity! {
    /// [FLOP/s] -- Computing speed.
    Speed, "a computing speed", "\"2 TFLOP/s\"",
    &[("FLOP/s", 1), ("kFLOP/s", K), ("MFLOP/s", M), ("GFLOP/s", G), ("TFLOP/s", T), ("PFLOP/s", P)]
}

/// Returns the sum of the parts of a text such as `1m30s` or `1.5 GB`, in base units.
///
/// Every part needs a unit. `None` if one has none, or the sum overflows.
fn parse(text: &str, units: Units) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        // A number up to the first other character, then a unit up to the next digit or space.
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&end| end > 0)?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let end = after.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(after.len());
        let (name, next) = after.split_at(end);
        let (_, scale) = units.iter().find(|(unit, _)| *unit == name)?;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = next.trim_start();
    }
    Some(total)
}

/// Returns `number * scale`: exactly for integers, otherwise rounded to the nearest base unit.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let value = number.parse::<f64>().ok()? * scale as f64;
    if value.is_finite() && value < u64::MAX as f64 { Some(value.round() as u64) } else { None }
}

/// Writes a value in the largest unit that divides it, so that reading it back gives the same value.
fn write_largest(f: &mut fmt::Formatter<'_>, value: u64, units: Units) -> fmt::Result {
    let largest = units.iter().rev().find(|(_, scale)| value >= *scale && value.is_multiple_of(*scale));
    let (unit, scale) = largest.unwrap_or(&units[0]);
    write!(f, "{} {unit}", value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, nanoseconds) in [
            ("1m30s", 90 * G),
            ("1m 30s", 90 * G),
            ("250ms", 250 * M),
            ("1.5 h", 5_400 * G),
            ("0s", 0),
            (" 2 d ", 172_800 * G),
        ] {
            assert_eq!(text.parse(), Ok(Duration(nanoseconds)), "{text}");
        }
        assert_eq!("20 Mbit/s".parse(), Ok(Rate(20 * M)));
        assert_eq!("0.5 GiB".parse(), Ok(Bytes(1 << 29)));
        assert_eq!("2 TFLOP/s".parse(), Ok(Speed(2 * T)));
    }

    #[test]
    fn refuses_what_has_no_clear_meaning() {
        for text in ["", "5", "s", "-5s", "1.2.3s", "5 seconds", "5s later", "99999999999999 d", "NaN s"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn text_and_value_agree_both_ways() {
        for value in [0, 1, 999, 1_000, 90 * G, 3_600 * G, 123_456_789_012] {
            assert_eq!(Duration(value).to_string().parse(), Ok(Duration(value)));
            assert_eq!(Bytes(value).to_string().parse(), Ok(Bytes(value)));
        }
    }
}
