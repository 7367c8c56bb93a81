//! The content of a row, in one of FedLLM-Bench's three forms or as a conversation with tools.

use std::fmt;

use serde::Serialize;

use super::json_value::JsonValue;
use super::message::ChatMessage;

/// The text of a row, in one of FedLLM-Bench's three forms or as a conversation with tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Content {
    /// Keys `instruction` and `response`.
    SingleTurn {
        /// The user's question; may be empty.
        instruction: String,
        /// The answer to train on; not only white space.
        response: String,
    },
    /// Key `conversations`: alternating messages from `human` and `gpt`.
    MultiTurn {
        /// Questions with their answers; never empty.
        exchanges: Vec<Exchange>,
        /// A last question without an answer. It is not trained on.
        unanswered: Option<String>,
    },
    /// Keys `prompt`, `chosen` and `rejected`.
    Preference {
        /// Earlier questions with their answers, which are not trained on; mostly none.
        history: Vec<Exchange>,
        /// The user's question.
        prompt: String,
        /// The preferred answer.
        chosen: String,
        /// The other answer.
        rejected: String,
    },
    /// Key `messages` or `conversations`, where tools are offered, called or answer. Only a chat template can write it.
    ToolUse {
        /// The messages behind the system prompt; the last one is the assistant's.
        messages: Vec<ChatMessage>,
        /// Schemas of the tools that the assistant may call, of the key `tools`.
        tools: Vec<JsonValue>,
    },
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// The `human` message.
    pub user: String,
    /// The `gpt` message; not only white space.
    pub assistant: String,
}

/// The form of a row. All rows of a file have the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// [`Content::SingleTurn`].
    SingleTurn,
    /// [`Content::MultiTurn`] or [`Content::ToolUse`].
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
