//! Reading of text fields from a JSON object.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::RowFault;

/// Removes and returns the string under `field`, which may be empty.
pub(super) fn take_text(fields: &mut BTreeMap<String, Value>, field: &'static str) -> Result<String, RowFault> {
    match fields.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(RowFault::WrongType { field, expected: "a string", found: kind_of(&other) }),
        None => Err(RowFault::Missing { field, present: fields.keys().cloned().collect() }),
    }
}

/// Removes and returns the string under `field`. White space alone is a fault, since it would train the model only to
/// stop.
pub(super) fn take_answer(fields: &mut BTreeMap<String, Value>, field: &'static str) -> Result<String, RowFault> {
    let text = take_text(fields, field)?;
    if text.trim().is_empty() { Err(RowFault::Empty { field }) } else { Ok(text) }
}

/// Returns the type of a JSON value, in words for an error message.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
