//! JSON values whose objects keep the order of their keys, since a chat template that prints an object shows it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Number, Value};

/// A JSON value. Two objects are equal if they have the same keys in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JsonValue {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<JsonValue>),
    /// Keys are unique. As in Python, one that is written twice has its first place and its last value.
    Object(Vec<(String, JsonValue)>),
}

impl JsonValue {
    /// Returns the text of a string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the elements of a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// Returns the value under a key; `None` if this is no object, or has no such key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns whether there is nothing in the value: null, white space, an empty list or object.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::List(elements) => elements.is_empty(),
            Self::Object(entries) => entries.is_empty(),
            Self::Bool(_) | Self::Number(_) => false,
        }
    }

    /// Returns all strings of the value, keys included.
    pub fn strings(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::List(elements) => elements.iter().flat_map(Self::strings).collect(),
            Self::Object(entries) => {
                entries.iter().flat_map(|(key, value)| [vec![key.as_str()], value.strings()].concat()).collect()
            }
            Self::Null | Self::Bool(_) | Self::Number(_) => vec![],
        }
    }
}

/// Sets the value under a key of an object.
pub(super) fn set(entries: &mut Vec<(String, JsonValue)>, key: String, value: JsonValue) {
    match entries.iter_mut().find(|(name, _)| *name == key) {
        Some((_, old)) => *old = value,
        None => entries.push((key, value)),
    }
}

impl From<String> for JsonValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for JsonValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Value> for JsonValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(text),
            Value::Array(elements) => Self::List(elements.into_iter().map(Self::from).collect()),
            Value::Object(map) => Self::Object(map.into_iter().map(|(key, value)| (key, value.into())).collect()),
        }
    }
}

impl From<JsonValue> for Value {
    fn from(value: JsonValue) -> Self {
        match value {
            JsonValue::Null => Self::Null,
            JsonValue::Bool(value) => Self::Bool(value),
            JsonValue::Number(number) => Self::Number(number),
            JsonValue::Text(text) => Self::String(text),
            JsonValue::List(elements) => Self::Array(elements.into_iter().map(Self::from).collect()),
            JsonValue::Object(entries) => entries.into_iter().map(|(key, value)| (key, Self::from(value))).collect(),
        }
    }
}

/// Writes the value as compact JSON.
impl fmt::Display for JsonValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// A format that does not describe itself, such as that of hashed keys, gets the JSON as text.
impl Serialize for JsonValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(elements) => serializer.collect_seq(elements),
            Self::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

/// Visitor of a value of any type.
struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = JsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonValue, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonValue, E> {
        Ok(JsonValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonValue, E> {
        Ok(JsonValue::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonValue, E> {
        Ok(JsonValue::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<JsonValue, E> {
        Ok(Number::from_f64(value).map_or(JsonValue::Null, JsonValue::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<JsonValue, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<JsonValue, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<JsonValue, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(JsonValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<JsonValue, A::Error> {
        let mut object = Vec::new();
        while let Some((key, value)) = entries.next_entry()? {
            set(&mut object, key, value);
        }
        Ok(JsonValue::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_the_last_value_counts() {
        let value: JsonValue =
            serde_json::from_str(r#"{"b": [1, -2, 0.5, true, null], "a": {"d": 1, "c": "é"}, "b": 3}"#).unwrap();
        assert_eq!(value.to_string(), r#"{"b":3,"a":{"d":1,"c":"é"}}"#);
        assert_eq!(value.strings(), ["b", "a", "d", "c", "é"]);
        assert_eq!(Value::from(value).to_string(), r#"{"a":{"c":"é","d":1},"b":3}"#);
    }

    #[test]
    fn hashed_bytes_tell_values_apart() {
        let bytes = |text: &str| postcard::to_stdvec(&serde_json::from_str::<JsonValue>(text).unwrap()).unwrap();
        let values = ["null", "false", "0", "[]", "{}", "\"\"", "[0]", "{\"a\":0,\"b\":1}", "{\"b\":1,\"a\":0}"];
        for (place, one) in values.iter().enumerate() {
            assert!(values[..place].iter().all(|other| bytes(one) != bytes(other)), "{one}");
        }
    }
}
