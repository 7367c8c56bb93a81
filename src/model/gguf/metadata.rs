//! The metadata of a GGUF file: typed values by key.

use std::collections::BTreeMap;
use std::io::Read;

use super::GgufFault;
use super::cursor::Cursor;

/// A value of the metadata. Arrays hold numbers, strings or truth values; no file in use has arrays of arrays.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Integer(i128),
    Float32(f32),
    Float64(f64),
    Bool(bool),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
}

/// All metadata of a file.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    entries: BTreeMap<String, Entry>,
}

impl Metadata {
    /// Reads `count` pairs of key and value.
    pub fn read<R: Read>(cursor: &mut Cursor<R>, count: usize) -> Result<Self, GgufFault> {
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let at = cursor.at();
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            let entry = read_entry(cursor, kind, &key)?;
            if entries.contains_key(&key) {
                return Err(Cursor::<R>::malformed(at, format!("{key} occurs twice")));
            }
            entries.insert(key, entry);
        }
        Ok(Self { entries })
    }

    /// Returns the keys that begin with `prefix`.
    pub fn keys_under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries.keys().map(String::as_str).filter(move |key| key.starts_with(prefix))
    }

    /// Returns a whole number that is not negative.
    pub fn size(&self, key: &str) -> Result<Option<usize>, GgufFault> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(Entry::Integer(value)) => match usize::try_from(*value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(GgufFault::key(key, format!("is {value}, expected a number that is not negative"))),
            },
            Some(other) => Err(unexpected(key, other, "one whole number")),
        }
    }

    /// Returns a number. A value that is stored in 32 bits is returned as the shortest decimal that rounds to it: 1e-5
    /// is stored as 9.999999747378752e-6, and 1e-5 is what the model's author wrote.
    pub fn number(&self, key: &str) -> Result<Option<f64>, GgufFault> {
        self.entry(key, "one number", |entry| match entry {
            Entry::Float32(value) => Some(value.to_string().parse().expect("a float prints as a number")),
            Entry::Float64(value) => Some(*value),
            Entry::Integer(value) => Some(*value as f64),
            _ => None,
        })
    }

    /// Returns a truth value.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufFault> {
        self.entry(key, "true or false", |entry| match entry {
            Entry::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// Returns a string.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufFault> {
        self.entry(key, "a text", |entry| match entry {
            Entry::Text(value) => Some(value.as_str()),
            _ => None,
        })
    }

    /// Returns a list of strings.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, GgufFault> {
        self.entry(key, "a list of texts", |entry| match entry {
            Entry::Texts(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// Returns a list of whole numbers.
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>, GgufFault> {
        self.entry(key, "a list of whole numbers", |entry| match entry {
            Entry::Integers(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// Returns a list of floating-point numbers.
    pub fn floats(&self, key: &str) -> Result<Option<&[f64]>, GgufFault> {
        self.entry(key, "a list of floating-point numbers", |entry| match entry {
            Entry::Floats(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// Returns what `take` finds in the entry of a key, `None` if there is no entry.
    ///
    /// # Errors
    /// If the entry is not what `take` expects, which `expected` describes.
    fn entry<'m, T>(
        &'m self,
        key: &str,
        expected: &str,
        take: impl FnOnce(&'m Entry) -> Option<T>,
    ) -> Result<Option<T>, GgufFault> {
        let Some(entry) = self.entries.get(key) else { return Ok(None) };
        take(entry).map(Some).ok_or_else(|| unexpected(key, entry, expected))
    }
}

/// Returns the value under a key that must be there.
pub(super) fn required<T>(value: Option<T>, key: &str) -> Result<T, GgufFault> {
    value.ok_or_else(|| GgufFault::key(key, "is missing"))
}

fn unexpected(key: &str, found: &Entry, expected: &str) -> GgufFault {
    let found = match found {
        Entry::Integer(value) => value.to_string(),
        Entry::Float32(value) => value.to_string(),
        Entry::Float64(value) => value.to_string(),
        Entry::Bool(value) => value.to_string(),
        Entry::Text(value) => format!("{value:?}"),
        Entry::Integers(values) => format!("a list of {} whole numbers", values.len()),
        Entry::Floats(values) => format!("a list of {} floating-point numbers", values.len()),
        Entry::Bools(values) => format!("a list of {} truth values", values.len()),
        Entry::Texts(values) => format!("a list of {} texts", values.len()),
    };
    GgufFault::key(key, format!("is {found}, expected {expected}"))
}

/// The types of values, as the specification numbers them.
mod kind {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const TEXT: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

fn read_entry<R: Read>(cursor: &mut Cursor<R>, kind: u32, key: &str) -> Result<Entry, GgufFault> {
    match kind {
        kind::U8 | kind::I8 | kind::U16 | kind::I16 | kind::U32 | kind::I32 | kind::U64 | kind::I64 => {
            Ok(Entry::Integer(read_integer(cursor, kind)?))
        }
        kind::F32 => Ok(Entry::Float32(f32::from_le_bytes(cursor.bytes()?))),
        kind::F64 => Ok(Entry::Float64(f64::from_le_bytes(cursor.bytes()?))),
        kind::BOOL => Ok(Entry::Bool(read_bool(cursor)?)),
        kind::TEXT => Ok(Entry::Text(cursor.text()?)),
        kind::ARRAY => read_array(cursor, key),
        other => Err(Cursor::<R>::malformed(cursor.at(), format!("{key} has type {other}, known are 0 to 12"))),
    }
}

fn read_array<R: Read>(cursor: &mut Cursor<R>, key: &str) -> Result<Entry, GgufFault> {
    let at = cursor.at();
    let kind = cursor.u32()?;
    // The smallest number of bytes that one element takes bounds their number.
    let bytes_each = match kind {
        kind::U8 | kind::I8 | kind::BOOL => 1,
        kind::U16 | kind::I16 => 2,
        kind::U32 | kind::I32 | kind::F32 => 4,
        kind::U64 | kind::I64 | kind::F64 | kind::TEXT => 8,
        kind::ARRAY => return Err(Cursor::<R>::malformed(at, format!("{key} is a list of lists"))),
        other => {
            return Err(Cursor::<R>::malformed(at, format!("{key} is a list of type {other}, known are 0 to 12")));
        }
    };
    let count = cursor.count(bytes_each, &format!("elements of {key}"))?;
    match kind {
        kind::TEXT => Ok(Entry::Texts((0..count).map(|_| cursor.text()).collect::<Result<_, _>>()?)),
        kind::BOOL => Ok(Entry::Bools((0..count).map(|_| read_bool(cursor)).collect::<Result<_, _>>()?)),
        kind::F32 | kind::F64 => {
            let mut values = Vec::with_capacity(count);
            for _ in 0..count {
                values.push(match kind {
                    kind::F32 => f32::from_le_bytes(cursor.bytes()?).into(),
                    _ => f64::from_le_bytes(cursor.bytes()?),
                });
            }
            Ok(Entry::Floats(values))
        }
        _ => {
            let mut values = Vec::with_capacity(count);
            for _ in 0..count {
                let at = cursor.at();
                let value = read_integer(cursor, kind)?;
                values.push(i64::try_from(value).map_err(|_| {
                    Cursor::<R>::malformed(
                        at,
                        format!("{key} has the element {value}, at most {} is allowed", i64::MAX),
                    )
                })?);
            }
            Ok(Entry::Integers(values))
        }
    }
}

fn read_integer<R: Read>(cursor: &mut Cursor<R>, kind: u32) -> Result<i128, GgufFault> {
    Ok(match kind {
        kind::U8 => u8::from_le_bytes(cursor.bytes()?).into(),
        kind::I8 => i8::from_le_bytes(cursor.bytes()?).into(),
        kind::U16 => u16::from_le_bytes(cursor.bytes()?).into(),
        kind::I16 => i16::from_le_bytes(cursor.bytes()?).into(),
        kind::U32 => u32::from_le_bytes(cursor.bytes()?).into(),
        kind::I32 => i32::from_le_bytes(cursor.bytes()?).into(),
        kind::I64 => i64::from_le_bytes(cursor.bytes()?).into(),
        _ => cursor.u64()?.into(),
    })
}

fn read_bool<R: Read>(cursor: &mut Cursor<R>) -> Result<bool, GgufFault> {
    let at = cursor.at();
    match cursor.bytes()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(Cursor::<R>::malformed(at, format!("a truth value is {other}, 0 and 1 are allowed"))),
    }
}
