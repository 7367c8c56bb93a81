//! `--set path=value`: changes one field of a scenario that has been read.
//!
//! The path names fields from the top, `server.protocol.deadline`; the name of an enum's variant may be left out. The
//! value is JSON, or plain text where it is not; `None` takes an optional field away, as in the file. A variant whose fields all have defaults can be named alone.

use serde_json::{Value, json};

use super::{Scenario, ScenarioError};

/// Applies one `path=value`.
pub(super) fn apply(scenario: &Scenario, argument: &str) -> Result<Scenario, ScenarioError> {
    let error = |message: String| ScenarioError::Override { argument: argument.to_owned(), message };
    let (path, value) = argument.split_once('=').ok_or_else(|| error("it must read path=value".into()))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    let mut tree = serde_json::to_value(scenario).expect("a scenario has only text keys");
    // Where there is none it is not written out, and can be set all the same.
    tree.as_object_mut().expect("a scenario has fields").entry("privacy").or_insert(Value::Null);
    let mut set = |value: &Value| -> Result<Scenario, String> {
        *find(&mut tree, path)? = value.clone();
        serde_json::from_value(tree.clone()).map_err(|source| source.to_string())
    };
    let first = match set(&value) {
        Ok(scenario) => return Ok(scenario),
        Err(message) => message,
    };
    match &value {
        Value::String(name) if name == "None" => set(&Value::Null).map_err(|_| error(first)),
        Value::String(name) if first.contains(NAMED_ALONE) => set(&json!({ name: {} })).map_err(error),
        _ => Err(error(first)),
    }
}

/// What serde says of a variant with fields that was named without them.
const NAMED_ALONE: &str = "invalid type: unit variant, expected struct variant";

fn find<'a>(tree: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    let mut here = tree;
    for segment in path.split('.') {
        here = enter(here, segment)?;
    }
    Ok(here)
}

fn enter<'a>(here: &'a mut Value, segment: &str) -> Result<&'a mut Value, String> {
    match here {
        Value::Array(items) => {
            let length = items.len();
            segment
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get_mut(index))
                .ok_or_else(|| format!("`{segment}` is not an index below {length}"))
        }
        Value::Object(fields) => {
            // An enum's variant stands between a field and the variant's own fields.
            let is_variant =
                fields.len() == 1 && fields.values().all(Value::is_object) && !fields.contains_key(segment);
            let names = fields.keys().cloned().collect::<Vec<_>>().join(", ");
            if is_variant {
                return enter(fields.values_mut().next().expect("a variant's object has one entry"), segment);
            }
            fields.get_mut(segment).ok_or(format!("there is no field `{segment}` here, only {names}"))
        }
        _ => Err(format!("`{segment}` is asked of a plain value")),
    }
}
