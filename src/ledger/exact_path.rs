//! Form of a path in a run's JSON files from which it is read again, whatever its bytes are: text, or for a path that is no UTF-8 an
//! object with its bytes as hexadecimal digits.

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

/// Serializes a path as text, in which what is no UTF-8 is replaced, for readers that know no other form.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_any_bytes_are_read_as_they_were_written() {
        for (bytes, form) in [(&b"runs/a"[..], json!("runs/a")), (b"a\xff", json!({ "hex": "61ff" }))] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(serialize(&path, serde_json::value::Serializer).unwrap(), form);
            assert_eq!(deserialize(form).unwrap(), path);
        }
        for wrong in [json!({ "hex": "6" }), json!({ "hex": "6g" }), json!({ "hex": "61", "text": "a" }), json!(1)] {
            deserialize(wrong).unwrap_err();
        }
    }
}
