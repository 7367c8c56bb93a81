//! Overrides `--set path=value`, which change one field of a scenario that has been read.
//!
//! The path names fields from the root, as in `server.protocol.deadline`; the name of an enum's variant may be omitted.
//! The value is JSON, or RON as in the file, or else plain text; `None` removes an optional field, and `"None"` is a text. A variant whose
//! fields all have defaults may be given by its name alone, with or without parentheses.

use serde_json::{Value, json};

use super::error::suggestion;
use super::ron_value::value_in;
use super::{ScenarioError, ScenarioSpec, SpecialTokensInTextSpec};

/// Applies one override `path=value`.
///
/// # Errors
/// If the path names no field, or the value does not fit it.
pub(super) fn apply(scenario: &ScenarioSpec, argument: &str) -> Result<ScenarioSpec, ScenarioError> {
    changed(scenario, argument).map_err(|message| ScenarioError::Override { argument: argument.to_owned(), message })
}

/// Applies one override; the error is only the message.
fn changed(scenario: &ScenarioSpec, argument: &str) -> Result<ScenarioSpec, String> {
    let (path, text) = argument.split_once('=').ok_or_else(|| "it must read path=value".to_owned())?;
    let value = read(text);
    // The scenario as JSON, in which a field can be found by its path, is changed and read back.
    let mut tree = serde_json::to_value(scenario).expect("a scenario has only text keys");
    for (pointer, field, default) in UNWRITTEN {
        let owner = tree.pointer_mut(pointer).and_then(Value::as_object_mut).expect("a scenario has this part");
        owner.entry(field).or_insert_with(default);
    }
    // An optional field of text would take the word as its text, so the removal is tried first.
    if text.trim() == "None"
        && let Ok(scenario) = set(&mut tree.clone(), path, Value::Null)
    {
        return Ok(scenario);
    }
    let first = match set(&mut tree, path, value.clone()) {
        Ok(scenario) => return Ok(scenario),
        Err(message) => message,
    };
    // A text may mean more than itself; anything else may be meant as a text. The first message is the one to report.
    match value {
        Value::String(name) if first.contains(NAMED_ALONE) => set(&mut tree, path, json!({ name: {} })),
        Value::String(_) => Err(first),
        // A file may be called `data(1)`.
        _ => set(&mut tree, path, Value::String(text.to_owned())).map_err(|_| first),
    }
}

/// Writes `value` into the field at `path` and reads the scenario back.
fn set(tree: &mut Value, path: &str, value: Value) -> Result<ScenarioSpec, String> {
    *find(tree, path)? = value;
    serde_json::from_value(tree.clone()).map_err(|source| with_suggestion(source.to_string()))
}

/// Fields that can be set although they are not serialized when they have their defaults: the JSON pointer of the
/// owner, the name and the default.
const UNWRITTEN: [(&str, &str, Default); 6] = [
    ("", "privacy", || Value::Null),
    ("/data", "special_tokens_in_text", || json!(SpecialTokensInTextSpec::default())),
    ("/data", "template_date", || Value::Null),
    ("/evaluation", "benchmarks", || Value::Array(vec![])),
    ("/evaluation", "questions", || Value::Null),
    ("/execution", "kernels", || Value::String("Auto".into())),
];

/// Constructor of the default of a field that is not serialized.
type Default = fn() -> Value;

/// Parses a value: as JSON, as RON with brackets, or else as plain text.
fn read(text: &str) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    // A single word is valid RON too, but may just as well be a text. A number may have forms that JSON lacks: `.5`, `0x10`.
    let is_closed = text.trim_end().ends_with([')', ']', '}']);
    let is_number = text.trim_start().starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    if (is_closed || is_number)
        && let Some(value) = value_in(text)
    {
        return value;
    }
    Value::String(text.to_owned())
}

/// Adds a suggestion to a message about an unknown name. Serde writes names in backticks, the unknown one first.
fn with_suggestion(message: String) -> String {
    if !message.starts_with("unknown ") {
        return message;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    let suggestion = suggestion(found, names);
    message + &suggestion
}

/// Part of serde's message about a variant with fields that was given without them.
const NAMED_ALONE: &str = "invalid type: unit variant, expected struct variant";

/// Returns the value at `path`.
fn find<'a>(tree: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    let mut here = tree;
    for segment in path.split('.') {
        here = enter(here, segment)?;
    }
    Ok(here)
}

/// Returns the element or field of a value that a segment of a path names.
fn enter<'a>(here: &'a mut Value, segment: &str) -> Result<&'a mut Value, String> {
    match here {
        Value::Array(items) => {
            let length = items.len();
            let element = segment.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            element.ok_or_else(|| format!("`{segment}` is not an index below {length}"))
        }
        Value::Object(fields) => {
            // A variant with fields is an object with one entry, which a path may skip.
            let is_variant =
                fields.len() == 1 && fields.values().all(Value::is_object) && !fields.contains_key(segment);
            let names = fields.keys().cloned().collect::<Vec<_>>().join(", ");
            if is_variant {
                return enter(fields.values_mut().next().expect("a variant's object has one entry"), segment);
            }
            let suggestion = suggestion(segment, fields.keys().map(String::as_str));
            fields.get_mut(segment).ok_or(format!("there is no field `{segment}` here, only {names}{suggestion}"))
        }
        _ => Err(format!("a plain value has no field `{segment}`")),
    }
}
