//! One row as its author wrote it: text, before any template or token.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::conversation::conversation;
use super::error::RowFault;

/// A row and what was written beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What is trained on.
    pub content: Content,
    /// Every other key of the row, such as Fed-Aya's `language`.
    pub attributes: BTreeMap<String, Value>,
}

/// The three forms of FedLLM-Bench's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Content {
    /// Keys `instruction` and `response`.
    SingleTurn {
        /// What the user asks; may be empty.
        instruction: String,
        /// What is learnt; holds more than white space.
        response: String,
    },
    /// Key `conversations`: messages from `human` and `gpt` in turn.
    MultiTurn {
        /// Questions with their answers; never empty.
        exchanges: Vec<Exchange>,
        /// A last question without an answer. It is not trained on.
        unanswered: Option<String>,
    },
    /// Keys `prompt`, `chosen` and `rejected`.
    Preference {
        /// What the user asks.
        prompt: String,
        /// The answer that was preferred.
        chosen: String,
        /// The answer that was not.
        rejected: String,
    },
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// The `human` message.
    pub user: String,
    /// The `gpt` message; holds more than white space.
    pub assistant: String,
}

/// Which of the three forms a row has. A file holds rows of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// [`Content::SingleTurn`].
    SingleTurn,
    /// [`Content::MultiTurn`].
    MultiTurn,
    /// [`Content::Preference`].
    Preference,
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SingleTurn => "single-turn",
            Self::MultiTurn => "multi-turn",
            Self::Preference => "preference",
        })
    }
}

impl Row {
    /// The form of this row.
    pub fn kind(&self) -> RowKind {
        match self.content {
            Content::SingleTurn { .. } => RowKind::SingleTurn,
            Content::MultiTurn { .. } => RowKind::MultiTurn,
            Content::Preference { .. } => RowKind::Preference,
        }
    }

    /// What is asked, turn by turn.
    pub fn asked(&self) -> Vec<&str> {
        match &self.content {
            Content::SingleTurn { instruction, .. } => vec![instruction],
            Content::Preference { prompt, .. } => vec![prompt],
            Content::MultiTurn { exchanges, .. } => exchanges.iter().map(|exchange| exchange.user.as_str()).collect(),
        }
    }

    /// What is answered, turn by turn; of a preference the chosen answer.
    pub fn answered(&self) -> Vec<&str> {
        match &self.content {
            Content::SingleTurn { response, .. } => vec![response],
            Content::Preference { chosen, .. } => vec![chosen],
            Content::MultiTurn { exchanges, .. } => {
                exchanges.iter().map(|exchange| exchange.assistant.as_str()).collect()
            }
        }
    }

    /// The row as it stands in a file: its texts and its attributes.
    pub fn to_json(&self) -> Value {
        let mut fields: serde_json::Map<String, Value> = match &self.content {
            Content::SingleTurn { instruction, response } => {
                [("instruction".into(), instruction.as_str().into()), ("response".into(), response.as_str().into())]
                    .into_iter()
                    .collect()
            }
            Content::Preference { prompt, chosen, rejected } => {
                [("prompt", prompt), ("chosen", chosen), ("rejected", rejected)]
                    .into_iter()
                    .map(|(name, text)| (name.to_owned(), text.as_str().into()))
                    .collect()
            }
            Content::MultiTurn { exchanges, unanswered } => {
                let message = |from: &str, value: &String| json!({ "from": from, "value": value });
                let exchange = |e: &Exchange| [message("human", &e.user), message("gpt", &e.assistant)];
                let last = unanswered.iter().map(|question| message("human", question));
                let messages: Vec<Value> = exchanges.iter().flat_map(exchange).chain(last).collect();
                [("conversations".to_owned(), messages.into())].into_iter().collect()
            }
        };
        fields.extend(self.attributes.clone());
        Value::Object(fields)
    }

    /// Reads a row from parsed JSON. The keys tell its kind: `conversations`, or `chosen`/`rejected`, or else
    /// `instruction` and `response`.
    pub(super) fn from_json(value: Value) -> Result<Self, RowFault> {
        let Value::Object(map) = value else {
            return Err(RowFault::NotAnObject { found: kind_of(&value) });
        };
        let mut fields: BTreeMap<String, Value> = map.into_iter().collect();
        let content = if let Some(messages) = fields.remove("conversations") {
            conversation(messages)?
        } else if fields.contains_key("chosen") || fields.contains_key("rejected") {
            let prompt = take_text(&mut fields, "prompt")?;
            let chosen = take_answer(&mut fields, "chosen")?;
            Content::Preference { prompt, chosen, rejected: take_answer(&mut fields, "rejected")? }
        } else {
            let instruction = take_text(&mut fields, "instruction")?;
            Content::SingleTurn { instruction, response: take_answer(&mut fields, "response")? }
        };
        Ok(Self { content, attributes: fields })
    }
}

/// Takes the string under `field`, which may be empty.
pub(super) fn take_text(fields: &mut BTreeMap<String, Value>, field: &'static str) -> Result<String, RowFault> {
    match fields.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(RowFault::WrongType { field, expected: "a string", found: kind_of(&other) }),
        None => Err(RowFault::Missing { field, present: fields.keys().cloned().collect() }),
    }
}

/// Takes the string under `field`, which must say something: an empty answer would teach only where to stop.
fn take_answer(fields: &mut BTreeMap<String, Value>, field: &'static str) -> Result<String, RowFault> {
    let text = take_text(fields, field)?;
    if text.trim().is_empty() { Err(RowFault::Empty { field }) } else { Ok(text) }
}

/// What a JSON value is, in words for an error.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(value: Value) -> String {
        Row::from_json(value).unwrap_err().to_string()
    }

    #[test]
    fn extra_keys_become_attributes() {
        let row = Row::from_json(json!({"instruction": "i", "response": "r", "language": "fr", "score": 3})).unwrap();
        assert_eq!(row.content, Content::SingleTurn { instruction: "i".into(), response: "r".into() });
        assert_eq!(row.attributes, BTreeMap::from([("language".into(), json!("fr")), ("score".into(), json!(3))]));
    }

    #[test]
    fn a_row_can_be_written_and_read_again() {
        let messages = json!([
            {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}, {"from": "human", "value": "?"}
        ]);
        for row in [
            json!({"instruction": "i", "response": "r", "language": "fr"}),
            json!({"prompt": "p", "chosen": "c", "rejected": "r", "score": 2}),
            json!({"conversations": messages, "id": "x"}),
        ] {
            assert_eq!(Row::from_json(row.clone()).unwrap().to_json(), row);
        }
    }

    #[test]
    fn a_preference_row_is_recognised() {
        let row = Row::from_json(json!({"prompt": "p", "chosen": "c", "rejected": "r"})).unwrap();
        assert_eq!(row.kind(), RowKind::Preference);
    }

    #[test]
    fn faults_say_what_is_wrong() {
        assert_eq!(fault(json!({"instruction": "i"})), "it has no \"response\"; its other keys: none");
        assert_eq!(
            fault(json!({"response": "r", "output": "o"})),
            "it has no \"instruction\"; its other keys: output, response"
        );
        assert_eq!(
            fault(json!({"instruction": "i", "response": null})),
            "its \"response\" must be a string and is null"
        );
        assert_eq!(fault(json!({"instruction": "i", "response": " \n"})), "its \"response\" is empty");
        assert_eq!(fault(json!(["i", "r"])), "a row must be a JSON object and this is a list");
        assert_eq!(fault(json!({"prompt": "p", "chosen": "c"})), "it has no \"rejected\"; its other keys: none");
    }
}
