//! RON: options for reading it, messages about syntax errors, and its conversion to JSON, the form in which overrides change single
//! fields of a scenario.
//!
//! RON does not say to its reader which word is a variant; in JSON, serde expects `{"Name": content}`.

use std::fmt;
use std::path::Path;

use ron::error::SpannedError;
use ron::extensions::Extensions;
use ron::value::RawValue;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use super::ScenarioError;
use super::error::suggestion as suggestion_of;

pub(super) fn options() -> ron::Options {
    ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

pub(super) fn syntax(file: &Path, error: &SpannedError) -> ScenarioError {
    let place = error.span.start;
    ScenarioError::Syntax {
        file: file.to_owned(),
        line: place.line,
        column: place.col,
        message: format!("{}{}", lower_first(&error.code.to_string()), suggestion(&error.code)),
    }
}

/// Returns a message with its first letter in lower case, unless it begins with an abbreviation.
fn lower_first(message: &str) -> String {
    let mut rest = message.chars();
    if message.chars().nth(1).is_some_and(char::is_uppercase) || message.starts_with("NaN") {
        return message.to_owned();
    }
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

/// Returns a suggestion of the nearest known name if the error is about a misspelled one.
fn suggestion(code: &ron::Error) -> String {
    match code {
        ron::Error::NoSuchStructField { found, expected, .. }
        | ron::Error::NoSuchEnumVariant { found, expected, .. } => suggestion_of(found, expected.iter().copied()),
        _ => String::new(),
    }
}

/// Returns the value of a text such as `Scaffold(server_lr: 0.5)` or `[(name: "mmlu", limit: 3)]`, or `None` if it is
/// not RON. A variant without content becomes its name, with or without parentheses.
pub(super) fn value_in(text: &str) -> Option<Value> {
    // A leading word is a variant's name, and what follows it in parentheses is its content.
    let text = text.trim();
    let (name, content) = text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()));
    let is_name = name.starts_with(|c: char| c.is_alphabetic()) && !matches!(name, "true" | "false" | "inf" | "NaN");
    if !is_name {
        return options().from_str::<Plain>(text).ok()?.whole();
    }
    let content = content.trim();
    let is_empty = content.strip_prefix('(').is_some_and(|rest| rest.trim_start() == ")");
    match name {
        "None" if content.is_empty() => Some(Value::Null),
        _ if content.is_empty() || is_empty => Some(Value::String(name.to_owned())),
        _ if !content.starts_with('(') => None,
        "Some" => options().from_str::<Plain>(content).ok()?.only(),
        _ => match options().from_str::<Plain>(content).ok()? {
            sequence @ Plain::Sequence(_) => Some(json!({ name: sequence.only()? })),
            fields => Some(json!({ name: fields.whole()? })),
        },
    }
}

/// Value whose parts are still RON text, since each may be a variant.
enum Plain {
    Scalar(Value),
    Sequence(Vec<Box<RawValue>>),
    Fields(Vec<(String, Box<RawValue>)>),
}

impl Plain {
    /// Converts the value with all of its parts.
    fn whole(self) -> Option<Value> {
        match self {
            Self::Scalar(value) => Some(value),
            Self::Sequence(items) => items.iter().map(|item| value_in(item.get_ron())).collect(),
            Self::Fields(fields) => {
                let mut object = Map::new();
                for (name, raw) in fields {
                    let value = value_in(raw.get_ron())?;
                    object.insert(name, value);
                }
                Some(Value::Object(object))
            }
        }
    }

    /// Converts the content of parentheses: a single value stands for itself.
    fn only(self) -> Option<Value> {
        match self {
            Self::Sequence(items) if items.len() == 1 => value_in(items[0].get_ron()),
            other => other.whole(),
        }
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Plain, E> {
        Ok(Plain::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Plain, E> {
        Ok(Plain::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Plain, E> {
        Ok(Plain::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Plain, E> {
        Ok(Plain::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Plain, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element()? {
            found.push(item);
        }
        Ok(Plain::Sequence(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Plain, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            found.push(entry);
        }
        Ok(Plain::Fields(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ron_becomes_json_with_the_names_of_variants() {
        for (text, expected) in [
            ("Scaffold()", json!("Scaffold")),
            ("Scaffold", json!("Scaffold")),
            ("None", json!(null)),
            ("Some(3)", json!(3)),
            ("FedProx(mu: 0.1, weights: Uniform)", json!({"FedProx": {"mu": 0.1, "weights": "Uniform"}})),
            ("Dpo(beta: 1)", json!({"Dpo": {"beta": 1}})),
            ("Weighted(2.5)", json!({"Weighted": 2.5})),
            (
                "[(name: \"mmlu\", limit: Some(3)), (name: \"x)\")]",
                json!([{"name": "mmlu", "limit": 3}, {"name": "x)"}]),
            ),
            ("{\"a\": Slow(by: -2), \"b\": true}", json!({"a": {"Slow": {"by": -2}}, "b": true})),
            ("(rank: 4, alpha: 8)", json!({"rank": 4, "alpha": 8})),
        ] {
            assert_eq!(value_in(text), Some(expected), "{text}");
        }
        for no_ron in ["10 Mbit/s", "Scaffold(", "Scaffold)x", "(", "../data.json", "FedProx(mu: )", "[1, 2"] {
            assert_eq!(value_in(no_ron), None, "{no_ron}");
        }
    }
}
