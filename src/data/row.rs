//! One row as its author wrote it: text, before any template or token.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::content::{Content, Exchange, RowKind};
use super::conversation::conversation;
use super::error::RowFault;
use super::json_fields::{kind_of, take_answer, take_text};

/// A row and what was written beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What is trained on.
    pub content: Content,
    /// Every other key of the row, such as Fed-Aya's `language`.
    pub attributes: BTreeMap<String, Value>,
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
