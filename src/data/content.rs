//! The content of a row in each of the three forms of FedLLM-Bench's rows.

use std::fmt;

use serde::Serialize;

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
