//! Errors in a dataset, a tokenizer or a row, each with its place.

use std::io;
use std::path::PathBuf;

use super::content::RowKind;

/// The reason why a dataset cannot be used. A failed read never returns a partial federation.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file is missing or cannot be read.
    #[error("failed to read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not JSON, or not the JSON that is expected at this place.
    #[error("failed to read {path} at line {line}, column {column}{place}: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Client and row being read, as a clause; empty outside any client.
        place: String,
        /// The parser's message.
        message: String,
    },
    /// A row is valid JSON but cannot be used.
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
        /// The fault.
        fault: RowFault,
    },
    /// A client has no usable row.
    #[error("failed to read {path} at line {line}: client {client:?} has no usable row; remove it or give it one", path = path.display())]
    EmptyClient {
        /// The file.
        path: PathBuf,
        /// The line on which the client ends, from 1.
        line: usize,
        /// The client's id.
        client: String,
    },
    /// Two clients have the same id. Other readers silently keep the last one.
    #[error("failed to read {path} at line {line}: client {client:?} appears twice; ids must be unique", path = path.display())]
    DuplicateClient {
        /// The file.
        path: PathBuf,
        /// Line of the second one, from 1.
        line: usize,
        /// The id.
        client: String,
    },
    /// A row exceeds the size limit of the reader.
    #[error("failed to read {path}{place}: a row exceeds {limit_bytes} bytes", path = path.display())]
    RowTooLarge {
        /// The file.
        path: PathBuf,
        /// Client and row being read, as a clause.
        place: String,
        /// [byte] -- The limit.
        limit_bytes: u64,
    },
    /// The file contains no client with a usable row.
    #[error("failed to read {path}: it holds no client with a usable row", path = path.display())]
    NoClients {
        /// The file.
        path: PathBuf,
    },
    /// The tokenizer's files are missing, malformed or contradictory.
    #[error("failed to load the tokenizer {path}: {message}", path = path.display())]
    BadTokenizer {
        /// The file or folder.
        path: PathBuf,
        /// The problem.
        message: String,
    },
    /// The tokenizer can produce ids for which the model has no embedding.
    #[error(
        "failed to match the tokenizer {path} to the model: its largest id is {largest_id}, and the model's vocabulary \
         ends at {last}", path = path.display(), last = i64::from(*vocab_size) - 1
    )]
    VocabularyTooSmall {
        /// The tokenizer's folder.
        path: PathBuf,
        /// The largest token id.
        largest_id: u32,
        /// Number of rows of the model's embedding.
        vocab_size: u32,
    },
    /// A row cannot be turned into a sample.
    #[error("failed to tokenise client {client:?}, row {row}: {fault}")]
    Untokenizable {
        /// The client's id.
        client: String,
        /// The row's index within its client, from 0.
        row: usize,
        /// The fault.
        fault: RowFault,
    },
}

/// The reason why a row cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// The row is not a JSON object.
    #[error("a row must be a JSON object and this is {found}")]
    NotAnObject {
        /// The type that was found.
        found: &'static str,
    },
    /// A key is missing.
    #[error("it has no {field:?}; its other keys: {}", listed(present))]
    Missing {
        /// The key.
        field: &'static str,
        /// The other keys of the row.
        present: Vec<String>,
    },
    /// A value has the wrong type.
    #[error("its {field:?} must be {expected} and is {found}")]
    WrongType {
        /// The key.
        field: &'static str,
        /// The type that is expected.
        expected: &'static str,
        /// The type that was found.
        found: &'static str,
    },
    /// An answer consists of white space only.
    #[error("its {field:?} is empty")]
    Empty {
        /// The key.
        field: &'static str,
    },
    /// A text contains a special token, which a chat template would turn into a token instead of text.
    #[error(
        "its text holds the special token {token:?}, which a chat template makes a token; remove it or use another template"
    )]
    HoldsSpecialToken {
        /// The token.
        token: String,
    },
    /// The chat template refuses the row.
    #[error("{message}")]
    ChatTemplate {
        /// The message of the template or its engine.
        message: String,
    },
    /// A message of a conversation is not an object.
    #[error("turn {turn} of its conversation must be a JSON object and is {found}")]
    NotAMessage {
        /// Index of the message, from 0.
        turn: usize,
        /// The type that was found.
        found: &'static str,
    },
    /// A message of a conversation has a fault.
    #[error("turn {turn} of its conversation: {fault}")]
    Turn {
        /// Index of the message, from 0.
        turn: usize,
        /// The fault.
        fault: Box<RowFault>,
    },
    /// A message has a role other than `human` and `gpt`.
    #[error("turn {turn} of its conversation has the role {role:?}; known are \"human\" and \"gpt\"")]
    UnknownRole {
        /// Index of the message, from 0.
        turn: usize,
        /// The role.
        role: String,
    },
    /// Two consecutive messages have the same role.
    #[error("turn {turn} of its conversation does not alternate: \"human\" and \"gpt\" must take turns")]
    NotAlternating {
        /// Index of the second message, from 0.
        turn: usize,
    },
    /// A `gpt` message consists of white space only.
    #[error("turn {turn} of its conversation is an empty answer")]
    EmptyTurn {
        /// Index of the message, from 0.
        turn: usize,
    },
    /// A conversation contains no answer to train on.
    #[error("its conversation holds no answer to a question")]
    NoAnswer,
    /// The row has another kind than the rows before it.
    #[error("it is a {found} row in a file of {expected} rows")]
    OtherKind {
        /// The kind of the first row.
        expected: RowKind,
        /// The kind of this row.
        found: RowKind,
    },
    /// The prompt fills the whole sequence.
    #[error(
        "its prompt has {prompt_tokens} tokens and leaves no room for a token of the response in a sequence of \
         {max_tokens}; raise the sequence length, shorten the row, or let such rows be skipped"
    )]
    PromptTooLong {
        /// [token] -- Tokens before the first target.
        prompt_tokens: usize,
        /// [token] -- The longest sequence.
        max_tokens: usize,
    },
    /// The tokenizer cannot encode the text.
    #[error("the tokenizer refused its text: {message}")]
    Refused {
        /// The tokenizer's message.
        message: String,
    },
    /// The task needs rows of another kind.
    #[error("it is a {found} row, and {wanted}")]
    WrongKindForTask {
        /// The row's kind.
        found: RowKind,
        /// The kind of rows that the task reads.
        wanted: &'static str,
    },
}

impl RowFault {
    /// Wraps this fault as the fault of one message of a conversation.
    pub(super) fn in_turn(self, turn: usize) -> Self {
        Self::Turn { turn, fault: Box::new(self) }
    }
}

fn listed(keys: &[String]) -> String {
    if keys.is_empty() { "none".into() } else { keys.join(", ") }
}
