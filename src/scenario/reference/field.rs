//! Explanation of one field: its doc comment taken apart, with the kind of its values and its defaults as a scenario would write
//! them.

use serde::Serialize;
use serde_json::Value;

use super::lookup::Place;
use super::{Schemas, fields, is_optional, named, variants};
use crate::scenario::schema::fidelity::{BASES, OTHER_DEFAULTS};

/// Explanation of a field, or of the whole scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Names from the root, with every variant, `*` for a name in a map and `N` for an index into a list.
    pub path: String,
    /// Kind of its values, in words.
    pub kind: String,
    pub unit: Option<String>,
    pub meaning: String,
    pub range: Option<String>,
    /// Empty if the field is required.
    pub defaults: Vec<Default>,
    /// Fields of a struct or variants of an enum, with their meanings.
    pub parts: Vec<(String, String)>,
}

/// Default of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Default {
    /// Setting under which it applies; empty for all scenarios that no other default names.
    pub under: &'static str,
    /// Value as a scenario would write it.
    pub value: String,
}

/// Parts of a doc comment of the form `[unit] meaning -- range. More meaning.`
pub(super) struct Comment {
    pub unit: Option<String>,
    pub meaning: String,
    pub range: Option<String>,
}

impl Comment {
    pub(super) fn of(text: &str) -> Self {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (unit, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            // A bracket with a backtick is a link, not a unit.
            Some((unit, rest)) if !unit.starts_with('`') => (Some(unit.to_owned()), rest.trim_start()),
            _ => (None, text.as_str()),
        };
        let Some((before, after)) = rest.split_once("-- ") else {
            return Self { unit, meaning: rest.to_owned(), range: None };
        };
        // The range ends with its sentence; what follows belongs to the meaning again.
        let (range, more) = after.split_once(". ").unwrap_or((after.trim_end_matches('.'), ""));
        let before = before.trim_end();
        let stop = if before.is_empty() || before.ends_with(['.', ';']) { "" } else { "." };
        let meaning = [&format!("{before}{stop}"), more].map(str::trim).join(" ").trim().to_owned();
        Self { unit, meaning, range: Some(range.to_owned()) }
    }
}

impl Schemas {
    /// Explains the field at a place.
    pub(super) fn entry(&self, place: Place) -> Entry {
        let own = place.schema["description"].as_str();
        let resolved = self.resolved(place.schema);
        let of_type = resolved["description"].as_str().unwrap_or_default();
        let comment = Comment::of(own.unwrap_or(of_type));
        // A field whose comment is only a unit or a range has the meaning of its type.
        let mut meaning = comment.meaning;
        if meaning.is_empty() {
            meaning = Comment::of(of_type).meaning;
        }
        Entry {
            kind: self.kind(place.schema),
            unit: comment.unit,
            meaning,
            range: comment.range,
            defaults: defaults(place.default.as_ref(), &place.schema[OTHER_DEFAULTS]),
            parts: self.parts(resolved),
            path: place.path,
        }
    }

    /// Returns the variants of an enum, or else the fields of a struct or of the elements of a list or map.
    fn parts(&self, schema: &Value) -> Vec<(String, String)> {
        let mut parts = Vec::new();
        for (name, described, content) in variants(schema) {
            let text = described["description"].as_str().unwrap_or_default();
            let names: Vec<&str> = content.map(fields).unwrap_or_default().into_iter().map(|(name, _)| name).collect();
            let brackets = if names.is_empty() { String::new() } else { format!("({})", names.join(", ")) };
            parts.push((format!("{name}{brackets}"), Comment::of(text).meaning));
        }
        if !parts.is_empty() {
            return parts;
        }
        for (name, field) in fields(self.content(schema)) {
            let text = field["description"].as_str().or(self.resolved(field)["description"].as_str());
            parts.push((name.to_owned(), Comment::of(text.unwrap_or_default()).meaning));
        }
        parts
    }

    /// Returns the schema of the elements of a list or a map, or else the schema itself.
    pub(super) fn content<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match (&schema["items"], &schema["additionalProperties"]) {
            (items @ Value::Object(_), _) => self.resolved(items),
            (_, values @ Value::Object(_)) => self.resolved(values),
            _ => schema,
        }
    }

    /// Returns the kind of a schema's values, in words.
    pub(super) fn kind(&self, schema: &Value) -> String {
        if is_optional(schema) {
            let inner = match schema["type"].as_array() {
                Some(types) => {
                    let name = types.iter().find(|name| *name != "null").unwrap_or(&Value::Null);
                    let mut plain = schema.clone();
                    plain["type"] = name.clone();
                    self.kind(&plain)
                }
                None => self.kind(self.optional_content(schema)),
            };
            return format!("{inner}, or None");
        }
        if let Some(name) = named(schema) {
            return match self.definitions[name]["title"].as_str() {
                Some(title) => title.to_owned(),
                None => name.to_owned(),
            };
        }
        if let Some(parts) = schema["prefixItems"].as_array() {
            return format!("({})", parts.iter().map(|part| self.kind(part)).collect::<Vec<_>>().join(", "));
        }
        match schema["type"].as_str() {
            Some("integer") => "whole number".into(),
            Some("boolean") => "true or false".into(),
            Some("string") => "text".into(),
            Some("array") => format!("list of {}", self.kind(&schema["items"])),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("map from names to {}", self.kind(&schema["additionalProperties"]))
            }
            Some("object") => "group of fields".into(),
            Some(other) => other.to_owned(),
            None => "one of several".into(),
        }
    }

    /// Returns the alternative that is not `null`.
    fn optional_content<'a>(&self, schema: &'a Value) -> &'a Value {
        let alternatives = super::alternatives(schema, "anyOf");
        alternatives.iter().find(|alternative| alternative["type"] != "null").unwrap_or(&Value::Null)
    }
}

/// Returns the default, and those of `others`, a list under [`OTHER_DEFAULTS`] or nothing, that differ from it.
fn defaults(first: Option<&Value>, others: &Value) -> Vec<Default> {
    let Some(first) = first else { return vec![] };
    let mut defaults = vec![Default { under: "", value: ron_text(first) }];
    for ((under, _), other) in BASES.iter().skip(1).zip(others.as_array().into_iter().flatten()) {
        if other != first {
            defaults.push(Default { under, value: ron_text(other) });
        }
    }
    defaults
}

/// Returns a value as one line of RON.
///
/// In JSON a variant looks like a text; it is recognized by its capital letter, with which no default text begins.
fn ron_text(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::String(text) if is_variant(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => short(float),
            _ => number.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(ron_text).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => match entries.iter().next() {
            None => "{}".into(),
            Some((name, content)) if is_variant(name) => format!("{name}{}", bracketed(&ron_text(content))),
            Some(_) => {
                let fields: Vec<String> =
                    entries.iter().map(|(name, value)| format!("{name}: {}", ron_text(value))).collect();
                format!("({})", fields.join(", "))
            }
        },
        plain => plain.to_string(),
    }
}

fn is_variant(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase()) && text.chars().all(char::is_alphanumeric)
}

fn bracketed(content: &str) -> String {
    if content.starts_with('(') { content.to_owned() } else { format!("({content})") }
}

/// Returns the shorter form of a number: 0, 0.5, 1e-8.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:e}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_has_three_parts() {
        for (text, unit, meaning, range) in [
            ("[steps] Of one task -- at least 1.", Some("steps"), "Of one task.", Some("at least 1")),
            ("[1] Momentum -- below 1. 0.9 in the paper.", Some("1"), "Momentum. 0.9 in the paper.", Some("below 1")),
            ("[epochs] -- above 0.", Some("epochs"), "", Some("above 0")),
            ("[`Self`] is a link.", None, "[`Self`] is a link.", None),
            ("Plain.", None, "Plain.", None),
        ] {
            let comment = Comment::of(text);
            assert_eq!(comment.unit.as_deref(), unit, "{text}");
            assert_eq!(comment.meaning, meaning, "{text}");
            assert_eq!(comment.range.as_deref(), range, "{text}");
        }
    }
}
