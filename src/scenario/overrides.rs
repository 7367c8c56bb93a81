//! `--set path=value`: changes one field of a scenario that has been read.
//!
//! The path names fields from the top, `server.protocol.deadline`; the name of an enum's variant may be left out. The
//! value is JSON, or RON as in the file, or else plain text; `None` takes an optional field away. A variant whose fields
//! all have defaults can be named alone, with parentheses or without.

use serde_json::{Value, json};

use super::nearest::suggestion;
use super::ron_value::value_in;
use super::{Scenario, ScenarioError};

/// Applies one `path=value`.
pub(super) fn apply(scenario: &Scenario, argument: &str) -> Result<Scenario, ScenarioError> {
    let error = |message: String| ScenarioError::Override { argument: argument.to_owned(), message };
    let (path, text) = argument.split_once('=').ok_or_else(|| error("it must read path=value".into()))?;
    let value = read(text);
    let mut tree = serde_json::to_value(scenario).expect("a scenario has only text keys");
    for (pointer, field, default) in UNWRITTEN {
        let owner = tree.pointer_mut(pointer).and_then(Value::as_object_mut).expect("a scenario has this part");
        owner.entry(field).or_insert_with(default);
    }
    let mut set = |value: &Value| -> Result<Scenario, String> {
        *find(&mut tree, path)? = value.clone();
        serde_json::from_value(tree.clone()).map_err(|source| with_suggestion(source.to_string()))
    };
    let first = match set(&value) {
        Ok(scenario) => return Ok(scenario),
        Err(message) => message,
    };
    match &value {
        Value::String(name) if name == "None" => set(&Value::Null).map_err(|_| error(first)),
        Value::String(name) if first.contains(NAMED_ALONE) => set(&json!({ name: {} })).map_err(error),
        Value::String(_) => Err(error(first)),
        // A file may be called `data(1)`.
        _ => set(&Value::String(text.to_owned())).map_err(|_| error(first)),
    }
}

/// Fields that are not written out where they have their defaults, and can be set all the same: where they are, their names
/// and defaults.
const UNWRITTEN: [(&str, &str, Default); 4] = [
    ("", "privacy", || Value::Null),
    ("/evaluation", "benchmarks", || Value::Array(vec![])),
    ("/evaluation", "questions", || Value::Null),
    ("/execution", "kernels", || Value::String("Auto".into())),
];

/// Makes what stands in a field that is not written out.
type Default = fn() -> Value;

/// JSON; RON that is more than a word, which a text may be; or else a text.
fn read(text: &str) -> Value {
    let is_closed = text.trim_end().ends_with([')', ']', '}']);
    let in_ron = || value_in(text).filter(|_| is_closed);
    serde_json::from_str(text).ok().or_else(in_ron).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The message, with the nearest name where it is about one that nobody knows: serde sets names in backticks, the unknown
/// one first.
fn with_suggestion(message: String) -> String {
    if !message.starts_with("unknown ") {
        return message;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    let suggestion = suggestion(found, names);
    message + &suggestion
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
            let suggestion = suggestion(segment, fields.keys().map(String::as_str));
            fields.get_mut(segment).ok_or(format!("there is no field `{segment}` here, only {names}{suggestion}"))
        }
        _ => Err(format!("`{segment}` is asked of a plain value")),
    }
}
