//! The content of a row, in one of FedLLM-Bench's three forms.

use std::fmt;

use serde::Serialize;

/// The text of a row, in one of FedLLM-Bench's three forms.
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
