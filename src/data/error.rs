//! What can be wrong with a dataset, a tokenizer or a row, each with its place.

use std::io;
use std::path::PathBuf;

use super::content::RowKind;

/// Why a dataset cannot be used. None of these leaves a partly read federation behind.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file is missing or cannot be read.
    #[error("failed to read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not the JSON that was expected at this place.
    #[error("failed to read {path} at line {line}, column {column}{place}: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Client and row being read, as a clause; empty outside of any client.
        place: String,
        /// What was found and what was expected.
        message: String,
    },
    /// A row that is JSON but no usable row.
    #[error("failed to read {path} at line {line}: client {client:?}, row {row}: {fault}", path = path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// The line on which the row ends, from 1.
        line: usize,
        /// The client's id.
        client: String,
        /// The row's index within its client, from 0.
        row: usize,
        /// What is wrong.
        fault: RowFault,
    },
    /// A client with nothing to train on.
    #[error("failed to read {path} at line {line}: client {client:?} has no usable row; remove it or give it one", path = path.display())]
    EmptyClient {
        /// The file.
        path: PathBuf,
        /// The line on which the client ends, from 1.
        line: usize,
        /// The client's id.
        client: String,
    },
    /// Two clients of one name. Other readers silently keep the last.
    #[error("failed to read {path} at line {line}: client {client:?} appears twice; ids must be unique", path = path.display())]
    DuplicateClient {
        /// The file.
        path: PathBuf,
        /// The line of the second, from 1.
        line: usize,
        /// The id.
        client: String,
    },
    /// A row larger than the reader takes.
    #[error("failed to read {path}{place}: a row exceeds {limit_bytes} bytes", path = path.display())]
    RowTooLarge {
        /// The file.
        path: PathBuf,
        /// Client and row being read, as a clause.
        place: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// The file holds no client, or none with a usable row.
    #[error("failed to read {path}: it holds no client with a usable row", path = path.display())]
    NoClients {
        /// The file.
        path: PathBuf,
    },
    /// The tokenizer's files are missing, broken or contradict each other.
    #[error("failed to load the tokenizer {path}: {message}", path = path.display())]
    BadTokenizer {
        /// File or folder.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The tokenizer can produce ids that the model has no embedding for.
    #[error(
        "failed to match the tokenizer {path} to the model: its largest id is {largest_id}, and the model's vocabulary \
         ends at {last}", path = path.display(), last = i64::from(*vocab_size) - 1
    )]
    VocabularyTooSmall {
        /// The tokenizer's folder.
        path: PathBuf,
        /// The largest id of any token.
        largest_id: u32,
        /// Rows of the model's embedding.
        vocab_size: u32,
    },
    /// A row that cannot be turned into a sample.
    #[error("failed to tokenise client {client:?}, row {row}: {fault}")]
    Untokenisable {
        /// The client's id.
        client: String,
        /// The row's index within its client, from 0.
        row: usize,
        /// What is wrong.
        fault: RowFault,
    },
}

/// What is wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// Not a JSON object.
    #[error("a row must be a JSON object and this is {found}")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A key is absent.
    #[error("it has no {field:?}; its other keys: {}", listed(present))]
    Missing {
        /// The key.
        field: &'static str,
        /// Keys that are there.
        present: Vec<String>,
    },
    /// A key holds something else.
    #[error("its {field:?} must be {expected} and is {found}")]
    WrongType {
        /// The key.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// An answer of white space only.
    #[error("its {field:?} is empty")]
    Empty {
        /// The key.
        field: &'static str,
    },
    /// A text that a chat template would turn into something else than text.
    #[error(
        "its text holds the special token {token:?}, which a chat template makes a token; remove it or use another template"
    )]
    HoldsSpecialToken {
        /// The token.
        token: String,
    },
    /// A chat template that refuses the row.
    #[error("{message}")]
    ChatTemplate {
        /// What the template or its engine said.
        message: String,
    },
    /// A message of a conversation is no object.
    #[error("turn {turn} of its conversation must be a JSON object and is {found}")]
    NotAMessage {
        /// Index of the message, from 0.
        turn: usize,
        /// What it is.
        found: &'static str,
    },
    /// A fault inside a message.
    #[error("turn {turn} of its conversation: {fault}")]
    Turn {
        /// Index of the message, from 0.
        turn: usize,
        /// The fault.
        fault: Box<RowFault>,
    },
    /// A role other than `human` and `gpt`.
    #[error("turn {turn} of its conversation has the role {role:?}; known are \"human\" and \"gpt\"")]
    UnknownRole {
        /// Index of the message, from 0.
        turn: usize,
        /// The role.
        role: String,
    },
    /// Two messages of one speaker in a row.
    #[error("turn {turn} of its conversation does not alternate: \"human\" and \"gpt\" must take turns")]
    NotAlternating {
        /// Index of the second message, from 0.
        turn: usize,
    },
    /// A `gpt` message of white space only.
    #[error("turn {turn} of its conversation is an empty answer")]
    EmptyTurn {
        /// Index of the message, from 0.
        turn: usize,
    },
    /// A conversation with nothing to learn.
    #[error("its conversation holds no answer to a question")]
    NoAnswer,
    /// A row of another kind than the rows before it.
    #[error("it is a {found} row in a file of {expected} rows")]
    OtherKind {
        /// The kind of the first row.
        expected: RowKind,
        /// The kind of this one.
        found: RowKind,
    },
    /// The prompt fills the sequence.
    #[error(
        "its prompt has {prompt_tokens} tokens and leaves no room for a token of the response in a sequence of \
         {max_tokens}; raise the sequence length, shorten the row, or let such rows be skipped"
    )]
    PromptTooLong {
        /// Tokens before the first learnt one.
        prompt_tokens: usize,
        /// The sequence length.
        max_tokens: usize,
    },
    /// The tokenizer gave up on the text.
    #[error("the tokenizer refused its text: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// The task reads rows of another kind.
    #[error("it is a {found} row, and {wanted}")]
    WrongKindForTask {
        /// The row's kind.
        found: RowKind,
        /// What the task reads.
        wanted: &'static str,
    },
}

impl RowFault {
    /// This fault, said of one message of a conversation.
    pub(super) fn in_turn(self, turn: usize) -> Self {
        Self::Turn { turn, fault: Box::new(self) }
    }
}

fn listed(keys: &[String]) -> String {
    if keys.is_empty() { "none".into() } else { keys.join(", ") }
}
