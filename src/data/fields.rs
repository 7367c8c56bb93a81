//! Columns of a row, and the texts in them.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::error::RowFault;
use super::json_value::JsonValue;

/// Columns of a row. The rules of a dataset take out those that they use; the others are the row's attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields {
    values: BTreeMap<String, JsonValue>,
    /// Columns of types that have no text, with the name of the type.
    unreadable: BTreeMap<String, String>,
}

impl Fields {
    /// Reads the columns of a JSON object.
    pub fn of_json(value: impl Into<JsonValue>) -> Result<Self, RowFault> {
        match value.into() {
            JsonValue::Object(entries) => Ok(Self::from(entries)),
            other => Err(RowFault::NotAnObject { found: kind_of(&other) }),
        }
    }

    /// Adds a column.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<JsonValue>) {
        self.values.insert(name.into(), value.into());
    }

    /// Adds a column of a type that has no text.
    pub fn insert_unreadable(&mut self, name: impl Into<String>, kind: impl Into<String>) {
        self.unreadable.insert(name.into(), kind.into());
    }

    /// Returns whether the row has this column, with whatever value.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.unreadable.contains_key(name)
    }

    /// Returns whether the row has this column with a value that is not null.
    pub fn has_value(&self, name: &str) -> bool {
        self.has(name) && self.values.get(name) != Some(&JsonValue::Null)
    }

    /// Returns the value of a column, which stays where it is.
    pub fn get(&self, name: &str) -> Option<&JsonValue> {
        self.values.get(name)
    }

    /// Takes out a column; a null counts as absent.
    ///
    /// # Errors
    /// If its type cannot be read.
    pub fn take(&mut self, name: &str) -> Result<Option<JsonValue>, RowFault> {
        if let Some(kind) = self.unreadable.get(name) {
            let found = format!("of the type {kind}");
            return Err(RowFault::WrongType { field: name.to_owned(), expected: "text", found });
        }
        Ok(self.values.remove(name).filter(|value| *value != JsonValue::Null))
    }

    /// Takes out a column that must be there and not null.
    pub fn required(&mut self, name: &str) -> Result<JsonValue, RowFault> {
        if self.values.get(name) == Some(&JsonValue::Null) {
            let field = name.to_owned();
            return Err(RowFault::WrongType { field, expected: "a string", found: "null".into() });
        }
        match self.take(name)? {
            Some(value) => Ok(value),
            None => Err(RowFault::Missing { field: name.to_owned(), present: self.names() }),
        }
    }

    /// Takes out a text, which may be empty. Numbers, booleans and the like become text as Python's `str` writes them.
    pub fn text(&mut self, name: &str) -> Result<String, RowFault> {
        let value = self.required(name)?;
        text_of(name, value)
    }

    /// Takes out a text that may be absent or null.
    pub fn optional_text(&mut self, name: &str) -> Result<Option<String>, RowFault> {
        match self.take(name)? {
            Some(value) => text_of(name, value).map(Some),
            None => Ok(None),
        }
    }

    /// Takes out an answer. White space alone is a fault, since it would train the model only to stop.
    pub fn answer(&mut self, name: &str) -> Result<String, RowFault> {
        let text = self.text(name)?;
        if text.trim().is_empty() { Err(RowFault::Empty { field: name.to_owned() }) } else { Ok(text) }
    }

    /// Returns what has not been taken out, and the names and types of the columns that cannot be read.
    pub fn into_rest(self) -> (BTreeMap<String, Value>, BTreeMap<String, String>) {
        (self.values.into_iter().map(|(name, value)| (name, value.into())).collect(), self.unreadable)
    }

    fn names(&self) -> Vec<String> {
        self.values.keys().chain(self.unreadable.keys()).cloned().collect()
    }
}

impl From<Vec<(String, JsonValue)>> for Fields {
    fn from(entries: Vec<(String, JsonValue)>) -> Self {
        Self { values: entries.into_iter().collect(), unreadable: BTreeMap::new() }
    }
}

fn text_of(name: &str, value: JsonValue) -> Result<String, RowFault> {
    match scalar_text(&value) {
        Some(text) => Ok(text),
        None => {
            let found = kind_of(&value).to_owned();
            Err(RowFault::WrongType { field: name.to_owned(), expected: "a string", found })
        }
    }
}

/// Returns a scalar as Python's `str` writes it, or `None` for null, lists, objects, and numbers that 64 bits do not hold.
pub(super) fn scalar_text(value: &JsonValue) -> Option<String> {
    match value {
        JsonValue::Text(text) => Some(text.clone()),
        JsonValue::Bool(true) => Some("True".into()),
        JsonValue::Bool(false) => Some("False".into()),
        JsonValue::Number(number) => number_text(number),
        JsonValue::Null | JsonValue::List(_) | JsonValue::Object(_) => None,
    }
}

fn number_text(number: &Number) -> Option<String> {
    const BEYOND_64_BITS: f64 = 18_446_744_073_709_551_616.0;
    if !number.is_f64() {
        return Some(number.to_string());
    }
    let value = number.as_f64()?;
    // An integer of more than 64 bits was rounded when it was parsed, and cannot be told from a float any more.
    if value.fract() == 0.0 && value.abs() >= BEYOND_64_BITS {
        return None;
    }
    Some(float_text(value))
}

/// Returns a float as Python's `repr` writes it: the shortest digits that give it back, with an exponent below 1e-4 and
/// from 1e16 on.
pub(super) fn float_text(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "nan".into() } else { format!("{value}") };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format writes an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    if (-4..16).contains(&exponent) || value == 0.0 {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Returns the type of a JSON value, in words for an error message.
pub(super) fn kind_of(value: &JsonValue) -> &'static str {
    match value {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "a boolean",
        JsonValue::Number(_) => "a number",
        JsonValue::Text(_) => "a string",
        JsonValue::List(_) => "a list",
        JsonValue::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Values of Python 3.12: `[str(x) for x in json.loads(...)]`.
    #[test]
    fn scalars_become_text_as_python_writes_them() {
        let values = json!([
            7,
            -3,
            18446744073709551615u64,
            7.8,
            5.0,
            -0.0,
            1e16,
            1e-5,
            0.0001,
            123456789012345680.0,
            1e15,
            true,
            false,
            "a"
        ]);
        let text = |value: &Value| scalar_text(&value.clone().into());
        let texts: Vec<String> = values.as_array().unwrap().iter().map(|value| text(value).unwrap()).collect();
        let expected = [
            "7",
            "-3",
            "18446744073709551615",
            "7.8",
            "5.0",
            "-0.0",
            "1e+16",
            "1e-05",
            "0.0001",
            "1.2345678901234568e+17",
            "1000000000000000.0",
            "True",
            "False",
            "a",
        ];
        assert_eq!(texts, expected);
        assert!([json!(null), json!([1]), json!({"a": 1}), json!(1e20)].iter().all(|value| text(value).is_none()));
    }

    #[test]
    fn a_column_without_text_is_named_with_its_type() {
        let mut fields = Fields::default();
        fields.insert_unreadable("input", "Binary");
        fields.insert("tags", json!(["a"]));
        let fault = |result: Result<String, RowFault>| result.unwrap_err().to_string();
        assert_eq!(fault(fields.text("input")), "its \"input\" must be text and is of the type Binary");
        assert_eq!(fault(fields.text("tags")), "its \"tags\" must be a string and is a list");
        assert_eq!(fault(fields.text("output")), "it has no \"output\"; its other keys: input");
    }
}
