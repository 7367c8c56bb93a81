//! One row of a dataset as its author wrote it: text, before prompt templates and tokenization.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::content::{Content, RowKind};
use super::conversation::conversation;
use super::error::RowFault;
use super::json_fields::{kind_of, take_answer, take_text};

/// A row and its additional attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The text to train on.
    pub content: Content,
    /// All other keys of the row, such as Fed-Aya's `language`.
    pub attributes: BTreeMap<String, Value>,
}

impl Row {
    /// Returns the kind of this row.
    pub fn kind(&self) -> RowKind {
        match self.content {
            Content::SingleTurn { .. } => RowKind::SingleTurn,
            Content::MultiTurn { .. } => RowKind::MultiTurn,
            Content::Preference { .. } => RowKind::Preference,
        }
    }

    /// Returns the user's messages, one per turn.
    pub fn asked(&self) -> Vec<&str> {
        match &self.content {
            Content::SingleTurn { instruction, .. } => vec![instruction],
            Content::Preference { prompt, .. } => vec![prompt],
            Content::MultiTurn { exchanges, .. } => exchanges.iter().map(|exchange| exchange.user.as_str()).collect(),
        }
    }

    /// Returns the answers, one per turn; for a preference row, the chosen answer.
    pub fn answered(&self) -> Vec<&str> {
        match &self.content {
            Content::SingleTurn { response, .. } => vec![response],
            Content::Preference { chosen, .. } => vec![chosen],
            Content::MultiTurn { exchanges, .. } => {
                exchanges.iter().map(|exchange| exchange.assistant.as_str()).collect()
            }
        }
    }

    /// Returns the row as a JSON object of its texts and attributes, as dataset files hold it.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        match &self.content {
            Content::SingleTurn { instruction, response } => {
                fields.insert("instruction".into(), instruction.as_str().into());
                fields.insert("response".into(), response.as_str().into());
            }
            Content::Preference { prompt, chosen, rejected } => {
                fields.insert("prompt".into(), prompt.as_str().into());
                fields.insert("chosen".into(), chosen.as_str().into());
                fields.insert("rejected".into(), rejected.as_str().into());
            }
            Content::MultiTurn { exchanges, unanswered } => {
                let mut messages = Vec::with_capacity(2 * exchanges.len() + 1);
                for exchange in exchanges {
                    messages.push(json!({ "from": "human", "value": exchange.user }));
                    messages.push(json!({ "from": "gpt", "value": exchange.assistant }));
                }
                if let Some(question) = unanswered {
                    messages.push(json!({ "from": "human", "value": question }));
                }
                fields.insert("conversations".into(), messages.into());
            }
        }
        fields.extend(self.attributes.clone());
        Value::Object(fields)
    }

    /// Reads a row from parsed JSON.
    ///
    /// The keys determine the kind: `conversations`, or `chosen` and `rejected`, or else `instruction` and `response`.
    pub(super) fn from_json(value: Value) -> Result<Self, RowFault> {
        let Value::Object(map) = value else {
            return Err(RowFault::NotAnObject { found: kind_of(&value) });
        };
        // The keys of the form are taken out one by one; what is left are the attributes.
        let mut fields: BTreeMap<String, Value> = map.into_iter().collect();
        let content = if let Some(messages) = fields.remove("conversations") {
            conversation(messages)?
        } else if fields.contains_key("chosen") || fields.contains_key("rejected") {
            let prompt = take_text(&mut fields, "prompt")?;
            let chosen = take_answer(&mut fields, "chosen")?;
            let rejected = take_answer(&mut fields, "rejected")?;
            Content::Preference { prompt, chosen, rejected }
        } else {
            let instruction = take_text(&mut fields, "instruction")?;
            let response = take_answer(&mut fields, "response")?;
            Content::SingleTurn { instruction, response }
        };
        Ok(Self { content, attributes: fields })
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
