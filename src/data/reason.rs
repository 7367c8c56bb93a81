//! Kinds of reasons why rows cannot be used, by which they are counted.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::RowFault;

/// Kind of reason why a row cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// It is torn, or no JSON, or no object.
    Malformed,
    /// A column is missing or has a value that is no text.
    Column,
    /// An answer is empty.
    EmptyAnswer,
    /// Its messages are not those of a conversation.
    Messages,
    /// It has another kind than the rows before it, or than training reads.
    OtherKind,
    /// It has no value by which rows are divided among clients.
    NoClient,
    /// Its text spells a special token.
    SpecialToken,
    /// The chat template refuses it.
    ChatTemplate,
    /// Its prompt leaves no room for an answer.
    TooLong,
    /// The tokenizer refuses it.
    Tokenizer,
    /// It lacks the key that [`super::after_last_key`] looks for, or a turn holds it.
    Key,
    /// Tools are offered, called or answer, and the template has no place for that.
    Tools,
}

impl Reason {
    /// Returns the settings of a scenario's `data` under which rows with this reason are no obstacle.
    pub fn lifted_by(self) -> &'static str {
        match self {
            Self::SpecialToken => "data.special_tokens_in_text: AsText, or data.bad_rows: Skip",
            Self::TooLong => "a larger data.max_seq_length, data.long_prompts: Skip, or data.bad_rows: Skip",
            Self::ChatTemplate => "another data.template, or data.bad_rows: Skip",
            Self::Tools => "data.template: Chat, or data.bad_rows: Skip",
            Self::Column => "data.columns, or data.bad_rows: Skip",
            Self::OtherKind => "another training.objective, or data.bad_rows: Skip",
            Self::Malformed | Self::EmptyAnswer | Self::Messages | Self::NoClient | Self::Tokenizer | Self::Key => {
                "data.bad_rows: Skip"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "torn or not JSON",
            Self::Column => "a column missing or not text",
            Self::EmptyAnswer => "an empty answer",
            Self::Messages => "messages out of order",
            Self::OtherKind => "another kind of row",
            Self::NoClient => "no value to choose a client by",
            Self::SpecialToken => "a special token in its text",
            Self::ChatTemplate => "refused by the chat template",
            Self::TooLong => "too long a prompt",
            Self::Tokenizer => "refused by the tokenizer",
            Self::Tools => "tools under a template without a place for them",
            Self::Key => "no key for data.masking, or one in a turn",
        })
    }
}

impl RowFault {
    /// Returns the kind of this fault.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotAnObject { .. } | Self::NotJson { .. } | Self::OtherWidth { .. } | Self::NotUtf8 { .. } => {
                Reason::Malformed
            }
            Self::Missing { .. } | Self::WrongType { .. } => Reason::Column,
            Self::Empty { .. } | Self::EmptyTurn { .. } => Reason::EmptyAnswer,
            Self::HoldsSpecialToken { .. } => Reason::SpecialToken,
            Self::ChatTemplate { .. } => Reason::ChatTemplate,
            Self::PromptTooLong { .. } => Reason::TooLong,
            Self::Refused { .. } => Reason::Tokenizer,
            Self::OtherKind { .. } | Self::WrongKindForTask { .. } | Self::NotRaw => Reason::OtherKind,
            Self::NoAttribute { .. } => Reason::NoClient,
            Self::NoKey => Reason::Key,
            Self::NeedsChatTemplate => Reason::Tools,
            Self::NotAMessage { .. }
            | Self::Turn { .. }
            | Self::UnknownRole { .. }
            | Self::NotAlternating { .. }
            | Self::NoAnswer
            | Self::NotText { .. }
            | Self::ToolCalls { .. }
            | Self::OutdatedCall { .. }
            | Self::NotACall { .. }
            | Self::LateSystemPrompt { .. }
            | Self::EarlierAnswers
            | Self::NoQuestion
            | Self::OtherPrompt
            | Self::NotOneAnswer { .. } => Reason::Messages,
        }
    }
}
