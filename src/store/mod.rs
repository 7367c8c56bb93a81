//! Content-addressed store of results on disk.
//!
//! A result is a sequence of bytes, whose meaning the store does not know, under the [`Key`] of everything that it was
//! computed from. On disk a store is a folder:
//!
//! - `results/KK/KEY` contains the hash of the result's content;
//! - `contents/HH/HASH` contains the bytes;
//! - `runs/` lists the runs that use the store;
//! - `partial/` contains files that are being written;
//! - `sessions/`, `claims/` and `gate` coordinate processes that use it at the same time.

pub mod atomic;
mod claim;
mod content;
mod foreign;
mod key;
mod registry;
mod secret;
mod session;
mod upkeep;

pub use claim::{Claim, Claiming, Elsewhere};
pub use content::{Store, StoreError};
pub use foreign::without_panic;
pub use key::{Digest, Key, Recipe, binary_hash, key_of};
pub use registry::RegisteredRun;
pub use secret::SecretText;
pub use upkeep::{StoredResult, Trim, Trimmed};

/// Form of a path in JSON from which it is read again, whatever its bytes are: text, or for a path that is no UTF-8 an object with
/// its bytes as hexadecimal digits.
pub mod exact_path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged, deny_unknown_fields)]
    enum Form {
        Text(String),
        Bytes { hex: String },
    }

    /// Serializes a path.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match path.to_str() {
            Some(text) => Form::Text(text.to_owned()),
            None => Form::Bytes { hex: path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect() },
        };
        form.serialize(serializer)
    }

    /// Reads a path.
    ///
    /// # Errors
    /// If it is neither text nor the digits of bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let hex = match Form::deserialize(deserializer)? {
            Form::Text(text) => return Ok(text.into()),
            Form::Bytes { hex } => hex,
        };
        let mut bytes = Vec::with_capacity(hex.len() / 2);
        for digits in hex.as_bytes().chunks(2) {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 2);
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(byte.ok_or_else(|| D::Error::custom("the bytes of a path are pairs of hexadecimal digits"))?);
        }
        Ok(OsString::from_vec(bytes).into())
    }
}

/// Serializes a path as text, in which what is no UTF-8 is replaced, since JSON has no other texts.
///
/// # Errors
/// Those of the serializer.
pub fn path_as_text<S: serde::Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
