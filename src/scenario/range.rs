//! Deserializers that check the range of a field while the file is read, so that errors have a line and a column.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a map and refuses duplicate names, of which serde would silently drop all but one.
pub fn unique<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Names<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry::<String, T>()? {
                // Inserting alone would silently replace the first value.
                if map.contains_key(&name) {
                    return Err(A::Error::custom(format!("`{name}` is defined twice")));
                }
                map.insert(name, value);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Names(PhantomData))
}

/// Reads an integer of at least 1.
pub fn at_least_one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + From<u8> + std::fmt::Display,
{
    let value = T::deserialize(deserializer)?;
    if value < T::from(1) {
        return Err(D::Error::custom(format!("{value} is out of range: it must be at least 1")));
    }
    Ok(value)
}

/// Reads an integer of at least 1, or `None`.
pub fn at_least_one_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        Some(0) => Err(D::Error::custom("0 is out of range: it must be at least 1")),
        value => Ok(value),
    }
}

/// Reads a finite number above 0.
pub fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, "above 0", |value| value > 0.0)
}

/// Reads a finite number of at least 0.
pub fn non_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, "at least 0", |value| value >= 0.0)
}

/// Reads a number that is above 0 and finite as an f32, the type in which adapters are trained.
pub fn positive_single<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let range = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
    checked(deserializer, "above 0 and finite in 32 bits (1.2e-38 to 3.4e38)", |value| range.contains(&value))
}

/// Reads a number of at least 0 that is finite as an f32.
pub fn non_negative_single<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let range = 0.0..=f64::from(f32::MAX);
    checked(deserializer, "at least 0 and finite in 32 bits (up to 3.4e38)", |value| range.contains(&value))
}

/// Reads a number in [0, 1).
pub fn below_one<'de, D: Deserializer<'de>, T: From<f64>>(deserializer: D) -> Result<T, D::Error> {
    checked(deserializer, "at least 0 and below 1", |value| (0.0..1.0).contains(&value)).map(T::from)
}

/// Reads a number in [0, 1].
pub fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, "from 0 to 1", |value| (0.0..=1.0).contains(&value))
}

/// Reads a number in (0, 1].
pub fn positive_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, "above 0, at most 1", |value| value > 0.0 && value <= 1.0)
}

/// Reads a number in (0, 0.5).
pub fn below_half<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, "above 0 and below 0.5", |value| value > 0.0 && value < 0.5)
}

/// Reads a number in (0, 1).
pub fn open_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, "above 0 and below 1", |value| value > 0.0 && value < 1.0)
}

/// Reads a number in [0, 5].
pub fn up_to_five<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, "from 0 to 5", |value| (0.0..=5.0).contains(&value))
}

/// Reads a number in [1, 1000].
pub fn one_to_a_thousand<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, "from 1 to 1000", |value| (1.0..=1000.0).contains(&value))
}

/// Reads an integer from 0 to 100.
pub fn up_to_a_hundred<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        value @ 0..=100 => Ok(value),
        value => Err(D::Error::custom(format!("{value} is out of range: it must be from 0 to 100"))),
    }
}

/// Reads a finite number above 0, or `None`.
pub fn positive_or_none<'de, D: Deserializer<'de>, T: From<Option<f64>>>(deserializer: D) -> Result<T, D::Error> {
    match Option::<f64>::deserialize(deserializer)? {
        Some(value) if !(value.is_finite() && value > 0.0) => Err(out_of_range(value, "above 0")),
        value => Ok(value.into()),
    }
}

/// Reads a number in [0, 5], or `None`.
pub fn up_to_five_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Option::<f64>::deserialize(deserializer)? {
        Some(value) if !(0.0..=5.0).contains(&value) => Err(out_of_range(value, "from 0 to 5")),
        value => Ok(value),
    }
}

fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    range: &str,
    holds: impl Fn(f64) -> bool,
) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.is_finite() && holds(value) { Ok(value) } else { Err(out_of_range(value, range)) }
}

fn out_of_range<E: Error>(value: f64, range: &str) -> E {
    E::custom(format!("{value} is out of range: it must be {range}"))
}
