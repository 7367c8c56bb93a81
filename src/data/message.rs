//! Messages of a conversation: author and text, or everything that its author wrote.

use serde::Serialize;

use super::json_value::JsonValue;

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Role {
    /// Instructions for the whole dialogue; many templates do not support them.
    System,
    /// The user, who asks.
    User,
    /// The model, whose answers are trained on.
    Assistant,
    /// A tool, whose results the model reads; many templates do not support them.
    Tool,
}

impl Role {
    /// Returns the name by which templates refer to the role.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message of a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The author.
    pub role: Role,
    /// The text.
    pub content: &'a str,
}

/// A message with all of its keys, such as `tool_calls`, `tool_call_id` and `name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// The author.
    pub role: Role,
    /// The keys as they are written, without those that are null.
    pub keys: Vec<(String, JsonValue)>,
}

impl ChatMessage {
    /// Returns the value under a key.
    pub fn get(&self, key: &str) -> Option<&JsonValue> {
        self.keys.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Returns the text of the message; empty if it has none.
    pub fn content(&self) -> &str {
        self.get("content").and_then(JsonValue::as_text).unwrap_or_default()
    }

    /// Returns the calls of tools.
    pub fn tool_calls(&self) -> &[JsonValue] {
        self.get("tool_calls").and_then(JsonValue::as_list).unwrap_or_default()
    }

    /// Returns all strings in the message but the role, names of keys included.
    pub fn strings(&self) -> Vec<&str> {
        let mut strings = Vec::new();
        for (key, value) in &self.keys {
            if key != "role" {
                strings.extend([key.as_str()]);
                strings.extend(value.strings());
            }
        }
        strings
    }
}

impl From<&Message<'_>> for ChatMessage {
    fn from(message: &Message) -> Self {
        let Message { role, content } = *message;
        Self { role, keys: vec![("role".into(), role.name().into()), ("content".into(), content.into())] }
    }
}
