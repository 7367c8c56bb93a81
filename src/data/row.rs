//! One row of a dataset as its author wrote it: text, before prompt templates and tokenization.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::content::{Content, RowKind};
use super::conversation::Conversation;
use super::error::RowFault;
use super::fields::Fields;
use super::json_value::JsonValue;
use super::message::{ChatMessage, Role};
use super::pair_columns::{completion, preference};
use super::tool_conversation::{ToolConversation, has_more_than_texts, take_schemas};

/// Columns that hold texts in one of the forms that are recognized without being named.
pub(super) const TEXT_COLUMNS: [&str; 9] =
    ["chosen", "completion", "conversations", "instruction", "messages", "prompt", "rejected", "response", "system"];

/// A row and its additional attributes. Two rows are equal if their texts and attributes are.
#[derive(Clone, Debug)]
pub struct Row {
    /// The system prompt that the row brings; never empty.
    pub system: Option<String>,
    /// The text to train on.
    pub content: Content,
    /// All other keys of the row, such as Fed-Aya's `language`.
    pub attributes: BTreeMap<String, Value>,
    /// Columns of types that have no text, with the name of the type.
    pub(super) unreadable: BTreeMap<String, String>,
    /// Whether the first message of the conversation is left out, since no question precedes it.
    pub lost_opening: bool,
    /// The row's place in its file; `None` for one that was not read from a file.
    pub place: Option<RowPlace>,
}

/// The place of a row in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPlace {
    /// The client's id in the file.
    pub client: Arc<str>,
    /// Index within the client, as in the file, from 0.
    pub row: usize,
    /// The line on which the row ends, from 1; `None` in a file without lines.
    pub line: Option<usize>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        let Self { system, content, attributes, .. } = self;
        *system == other.system && *content == other.content && *attributes == other.attributes
    }
}

impl From<Content> for Row {
    fn from(content: Content) -> Self {
        let attributes = BTreeMap::new();
        let unreadable = BTreeMap::new();
        Self { system: None, content, attributes, unreadable, lost_opening: false, place: None }
    }
}

impl Row {
    /// Returns the kind of this row.
    pub fn kind(&self) -> RowKind {
        match self.content {
            Content::SingleTurn { .. } => RowKind::SingleTurn,
            Content::MultiTurn { .. } | Content::ToolUse { .. } => RowKind::MultiTurn,
            Content::Preference { .. } => RowKind::Preference,
        }
    }

    /// Returns the user's messages, one per turn.
    pub fn asked(&self) -> Vec<&str> {
        match &self.content {
            Content::SingleTurn { instruction, .. } => vec![instruction],
            Content::Preference { history, prompt, .. } => {
                history.iter().map(|exchange| exchange.user.as_str()).chain([prompt.as_str()]).collect()
            }
            Content::MultiTurn { exchanges, .. } => exchanges.iter().map(|exchange| exchange.user.as_str()).collect(),
            Content::ToolUse { messages, .. } => said(messages, Role::User),
        }
    }

    /// Returns the answers that are trained on, one per turn; for a preference row, the chosen answer. Calls of tools have no
    /// text.
    pub fn answered(&self) -> Vec<&str> {
        match &self.content {
            Content::SingleTurn { response, .. } => vec![response],
            Content::Preference { chosen, .. } => vec![chosen],
            Content::MultiTurn { exchanges, .. } => {
                exchanges.iter().map(|exchange| exchange.assistant.as_str()).collect()
            }
            Content::ToolUse { messages, .. } => said(messages, Role::Assistant),
        }
    }

    /// Returns the row as a JSON object of its texts and attributes, as dataset files hold it.
    pub fn to_json(&self) -> Value {
        self.written().into()
    }

    /// Returns the row as [`Self::to_json`] does, with messages whose keys keep their order.
    pub(super) fn written(&self) -> JsonValue {
        let mut fields: BTreeMap<String, JsonValue> = BTreeMap::new();
        match &self.content {
            Content::SingleTurn { instruction, response } => {
                fields.insert("instruction".into(), instruction.as_str().into());
                fields.insert("response".into(), response.as_str().into());
            }
            Content::Preference { history, prompt, chosen, rejected } => {
                if history.is_empty() {
                    fields.insert("prompt".into(), prompt.as_str().into());
                } else {
                    let mut messages = Vec::with_capacity(2 * history.len() + 1);
                    for exchange in history {
                        messages.push(json!({ "role": "user", "content": exchange.user }).into());
                        messages.push(json!({ "role": "assistant", "content": exchange.assistant }).into());
                    }
                    messages.push(json!({ "role": "user", "content": prompt }).into());
                    fields.insert("prompt".into(), JsonValue::List(messages));
                }
                fields.insert("chosen".into(), chosen.as_str().into());
                fields.insert("rejected".into(), rejected.as_str().into());
            }
            Content::MultiTurn { exchanges, unanswered } => {
                let mut messages = Vec::with_capacity(2 * exchanges.len() + 1);
                for exchange in exchanges {
                    messages.push(json!({ "from": "human", "value": exchange.user }).into());
                    messages.push(json!({ "from": "gpt", "value": exchange.assistant }).into());
                }
                if let Some(question) = unanswered {
                    messages.push(json!({ "from": "human", "value": question }).into());
                }
                fields.insert("conversations".into(), JsonValue::List(messages));
            }
            Content::ToolUse { messages, tools } => {
                let messages = messages.iter().map(|message| JsonValue::Object(message.keys.clone())).collect();
                fields.insert("messages".into(), JsonValue::List(messages));
                if !tools.is_empty() {
                    fields.insert("tools".into(), JsonValue::List(tools.clone()));
                }
            }
        }
        if let Some(system) = &self.system {
            fields.insert("system".into(), system.as_str().into());
        }
        for (name, value) in &self.attributes {
            // An attribute under the name of a text would be read as that text.
            if !TEXT_COLUMNS.contains(&name.as_str()) {
                fields.insert(name.clone(), value.clone().into());
            }
        }
        JsonValue::Object(fields.into_iter().collect())
    }

    /// Reads a row from parsed JSON whose columns are not named, as [`Self::of_fields`] does.
    #[cfg(test)]
    pub(super) fn from_json(value: Value) -> Result<Self, RowFault> {
        Self::of_fields(Fields::of_json(value)?)
    }

    /// Reads a row whose columns are not named.
    ///
    /// The keys determine the form: `conversations` or `messages`; `chosen` and `rejected`; `instruction` and `response`;
    /// or `prompt` and `completion`. A key that is null decides nothing. In each form `system` is a system prompt. Messages
    /// may have `tools`.
    pub(super) fn of_fields(mut fields: Fields) -> Result<Self, RowFault> {
        let system = match fields.get("system") {
            Some(JsonValue::Text(_)) => fields.optional_text("system")?.filter(|text| !text.is_empty()),
            _ => None,
        };
        for column in ["conversations", "messages"] {
            if fields.has_value(column) {
                let messages = fields.required(column)?;
                let tools = take_schemas(&mut fields)?;
                if has_more_than_texts(&messages) || !tools.is_empty() {
                    let ToolConversation { system: first, messages, lost_opening } =
                        ToolConversation::trainable(column, messages)?;
                    let row = Self::of_content(Content::ToolUse { messages, tools }, fields);
                    return Ok(Self { lost_opening, ..row.under(first).under(system) });
                }
                let conversation = Conversation::trainable(column, messages)?;
                return Ok(Self::of_conversation(conversation, fields).under(system));
            }
        }
        if fields.has_value("chosen") || fields.has_value("rejected") {
            let texts = preference(&mut fields)?;
            return Ok(Self::of_content(texts.content, fields).under(texts.system).under(system));
        }
        if fields.has("completion") && !fields.has("instruction") {
            let texts = completion(&mut fields)?;
            return Ok(Self::of_content(texts.content, fields).under(texts.system).under(system));
        }
        let lists = ["conversations", "messages"];
        if !fields.has("instruction")
            && let Some(column) = lists.into_iter().find(|column| fields.has(column))
        {
            let found = "null".to_owned();
            return Err(RowFault::WrongType { field: column.to_owned(), expected: "a list", found });
        }
        let instruction = fields.text("instruction")?;
        let response = fields.answer("response")?;
        Ok(Self::of_content(Content::SingleTurn { instruction, response }, fields).under(system))
    }

    /// Makes a row of a conversation; `rest` are its attributes.
    fn of_conversation(conversation: Conversation, rest: Fields) -> Self {
        let Conversation { system, exchanges, unanswered, lost_opening } = conversation;
        let row = Self::of_content(Content::MultiTurn { exchanges, unanswered }, rest);
        Self { lost_opening, ..row.under(system) }
    }

    /// Makes a row without a system prompt; `rest` are its attributes.
    pub(super) fn of_content(content: Content, rest: Fields) -> Self {
        let (attributes, unreadable) = rest.into_rest();
        Self { attributes, unreadable, ..Self::from(content) }
    }

    /// Returns the row with this system prompt, unless it has one of its own or there is none.
    pub(super) fn under(mut self, system: Option<String>) -> Self {
        self.system = self.system.or(system);
        self
    }
}

/// Returns the texts of an author.
fn said(messages: &[ChatMessage], role: Role) -> Vec<&str> {
    let of_role = messages.iter().filter(|message| message.role == role);
    of_role.map(ChatMessage::content).filter(|text| !text.trim().is_empty()).collect()
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
        let earlier = json!([
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "p"}
        ]);
        for row in [
            json!({"instruction": "i", "response": "r", "language": "fr"}),
            json!({"instruction": "i", "response": "r", "system": "s"}),
            json!({"prompt": "p", "chosen": "c", "rejected": "r", "score": 2}),
            json!({"prompt": earlier, "chosen": "c", "rejected": "r"}),
            json!({"conversations": messages, "id": "x"}),
        ] {
            assert_eq!(Row::from_json(row.clone()).unwrap().to_json(), row);
        }
    }

    #[test]
    fn a_system_prompt_is_taken_in_every_form() {
        let chat = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
        for row in [
            json!({"instruction": "i", "response": "r", "system": "s"}),
            json!({"prompt": "p", "completion": "c", "system": "s"}),
            json!({"prompt": "p", "chosen": "c", "rejected": "r", "system": "s"}),
            json!({"messages": chat, "system": "s"}),
        ] {
            let row = Row::from_json(row).unwrap();
            assert_eq!(row.system.as_deref(), Some("s"));
            assert!(row.attributes.is_empty());
        }
        assert_eq!(Row::from_json(json!({"instruction": "i", "response": "r", "system": ""})).unwrap().system, None);
    }

    #[test]
    fn a_preference_row_is_recognised() {
        let row = Row::from_json(json!({"prompt": "p", "chosen": "c", "rejected": "r"})).unwrap();
        assert_eq!(row.kind(), RowKind::Preference);
    }

    /// As tables of several datasets have it.
    #[test]
    fn columns_of_another_form_may_be_null() {
        let row = Row::from_json(json!({
            "conversations": null, "messages": null, "chosen": null, "rejected": null, "instruction": "i", "response": "r"
        }));
        assert_eq!(row.unwrap().content, Content::SingleTurn { instruction: "i".into(), response: "r".into() });
        let chat = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
        let row = Row::from_json(json!({"conversations": null, "messages": chat, "instruction": null}));
        assert_eq!(row.unwrap().kind(), RowKind::MultiTurn);
        assert_eq!(fault(json!({"messages": null})), "its \"messages\" must be a list and is null");
        let half = fault(json!({"chosen": "c", "rejected": null, "prompt": "p"}));
        assert_eq!(half, "its \"rejected\" must be a string and is null");
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
