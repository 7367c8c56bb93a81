//! Errors in a dataset, a tokenizer or a row, each with its place.

use std::fmt;
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
    /// A row cannot be used.
    #[error("failed to read {path}{}: {row}", at_line(row.line), path = path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// The row and its fault.
        row: Box<SkippedRow>,
    },
    /// A client has no usable row.
    #[error("failed to read {path}{}: client {client:?} has no usable row; remove it or give it one", at_line(*line), path = path.display())]
    EmptyClient {
        /// The file.
        path: PathBuf,
        /// The line on which the client begins, from 1; `None` in a file without lines.
        line: Option<usize>,
        /// The client's id.
        client: String,
    },
    /// Two clients have the same id. Other readers silently keep the last one.
    #[error("failed to read {path}{}: client {client:?} appears twice; ids must be unique", at_line(*line), path = path.display())]
    DuplicateClient {
        /// The file.
        path: PathBuf,
        /// Line of the second one, from 1; `None` in a file without lines.
        line: Option<usize>,
        /// The id.
        client: String,
    },
    /// The keys of a file are the splits of a dataset.
    #[error(
        "failed to read {path}: it holds the splits {} of a dataset, which are no clients; write the rows of one of them to a \
         file of its own", names.join(", "), path = path.display()
    )]
    Splits {
        /// The file.
        path: PathBuf,
        /// Names of the splits.
        names: Vec<String>,
    },
    /// A file that is not JSON is damaged, or a folder is no dataset.
    #[error("failed to read {path}{place}: {message}", path = path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// Client and row being read, as a clause; empty outside any client.
        place: String,
        /// The reader's message.
        message: String,
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
    #[error("failed to read {path}: it holds no client with a usable row{}", first_fault(first.as_deref()), path = path.display())]
    NoClients {
        /// The file.
        path: PathBuf,
        /// The first row that was left out.
        first: Option<Box<SkippedRow>>,
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
    #[error("failed to tokenise {row}")]
    Untokenizable {
        /// The row and its fault.
        row: Box<SkippedRow>,
    },
}

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedRow {
    /// The client's id.
    pub client: String,
    /// Index of the row within its client, as in the file, from 0.
    pub row: usize,
    /// The line on which the row ends, from 1; `None` in a file without lines.
    pub line: Option<usize>,
    /// The reason.
    pub fault: RowFault,
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
        field: String,
        /// The other keys of the row.
        present: Vec<String>,
    },
    /// A value has the wrong type.
    #[error("its {field:?} must be {expected} and is {found}")]
    WrongType {
        /// The key.
        field: String,
        /// The type that is expected.
        expected: &'static str,
        /// The type that was found.
        found: String,
    },
    /// An answer consists of white space only.
    #[error("its {field:?} is empty")]
    Empty {
        /// The key.
        field: String,
    },
    /// A row is no JSON.
    #[error("it is not JSON, at line {line}, column {column}: {message}")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The parser's message.
        message: String,
    },
    /// A row of a table has more or fewer values than there are columns.
    #[error("it has {found} values under {expected} column names")]
    OtherWidth {
        /// Number of values.
        found: usize,
        /// Number of columns.
        expected: usize,
    },
    /// A value of a table is no UTF-8.
    #[error("its {field:?} is not UTF-8")]
    NotUtf8 {
        /// The column.
        field: String,
    },
    /// A message has a part that is an image or the like.
    #[error("it has a part that is no text: {part}")]
    NotText {
        /// Type of the part.
        part: String,
    },
    /// A message of a pair or of a completion calls a tool, or is the result of one.
    #[error(
        "turn {turn} of its conversation calls tools or is the result of a call, which only \"messages\" and \"conversations\" \
         may have"
    )]
    ToolCalls {
        /// Index of the message, from 0.
        turn: usize,
    },
    /// A message calls a function as OpenAI's interface did before it had tools.
    #[error(
        "turn {turn} of its conversation has a \"function_call\", which chat templates do not know; write it as \"tool_calls\""
    )]
    OutdatedCall {
        /// Index of the message, from 0.
        turn: usize,
    },
    /// The text of a call is not one.
    #[error(
        "turn {turn} of its conversation must be a call: JSON of an object with \"name\" and \"arguments\", or of a list of them"
    )]
    NotACall {
        /// Index of the message, from 0.
        turn: usize,
    },
    /// Tools are offered, called or answer, or the model thought, and the template has no place for that.
    #[error(
        "it has tools or reasoning, which only a chat template can write; data.template: Chat is that of the model"
    )]
    NeedsChatTemplate,
    /// A system prompt stands behind other messages.
    #[error("turn {turn} of its conversation is a system prompt, which only begins a conversation")]
    LateSystemPrompt {
        /// Index of the message, from 0.
        turn: usize,
    },
    /// The prompt of a completion has answers in it.
    #[error("its \"prompt\" has answers in it; write it as \"messages\", where they are trained on as well")]
    EarlierAnswers,
    /// The messages of a prompt do not end with a question.
    #[error("its prompt does not end with a question of the user")]
    NoQuestion,
    /// The answers of a pair begin with other messages than the prompt.
    #[error("its \"chosen\" and \"rejected\" begin with messages that are not its \"prompt\"")]
    OtherPrompt,
    /// A list of messages is not one answer.
    #[error("its {field:?} must be one answer of the assistant")]
    NotOneAnswer {
        /// The column.
        field: String,
    },
    /// A text contains a special token, which a chat template would turn into a token instead of text.
    #[error(
        "its text holds the special token {token:?}, which a chat template makes a token; data.special_tokens_in_text: AsText \
         makes it plain characters"
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
    /// A message has an unknown role.
    #[error(
        "turn {turn} of its conversation has the role {role:?}; known are \"system\", \"human\", \"user\", \"gpt\", \"assistant\", \"chatgpt\", \"bing\", \"bard\", \"tool\", \"observation\" and \"function_call\""
    )]
    UnknownRole {
        /// Index of the message, from 0.
        turn: usize,
        /// The role.
        role: String,
    },
    /// Two consecutive messages have the same role.
    #[error("turn {turn} of its conversation does not alternate: user and assistant must take turns")]
    NotAlternating {
        /// Index of the second message, from 0.
        turn: usize,
    },
    /// An answer consists of white space only.
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
    /// A raw pair has a prompt, and no place for anything before it.
    #[error("it has a system prompt or earlier turns, which raw pairs have no place for; data.pairs: Templated does")]
    NotRaw,
    /// The row has no value by which rows are divided among clients.
    #[error("it has no attribute {attribute:?}{what}; it has: {}", listed(present))]
    NoAttribute {
        /// The attribute.
        attribute: String,
        /// Value that was found, as a clause.
        what: String,
        /// The attributes of the row.
        present: Vec<String>,
    },
    /// The key that labels are found by is missing, or a turn of a conversation has it.
    #[error("the template's key is not in its tokens, or in one of its turns")]
    NoKey,
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

impl fmt::Display for SkippedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, row, fault, .. } = self;
        write!(f, "client {client:?}, row {row}: {fault}")
    }
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" at line {line}"))
}

fn first_fault(first: Option<&SkippedRow>) -> String {
    first.map_or_else(String::new, |row| format!("; the first that cannot be used is{}: {row}", at_line(row.line)))
}

fn listed(keys: &[String]) -> String {
    if keys.is_empty() { "none".into() } else { keys.join(", ") }
}

impl RowFault {
    /// Returns the fault of a row that the tokenizer cannot encode.
    pub(super) fn refused(error: TokenizerError) -> Self {
        Self::Refused { message: error.0 }
    }
}

/// Error of a tokenizer: its own message, for a text that it cannot represent or for ids that it does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenizerError(pub(super) String);

/// Reason why rows cannot be partitioned among clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// A number of rows is given, and the clients of the file stay as they are.
    #[error("data.rows draws from pooled rows; data.partition must say how they are partitioned")]
    NoRule,
    /// At least one client would have no row.
    #[error("{clients} clients were to share {rows} rows{}", more_without(*without, first.as_deref()))]
    TooFewRows {
        clients: usize,
        rows: usize,
        /// Number of rows that lack the attribute by which rows are divided.
        without: usize,
        /// The first of them.
        first: Option<Box<SkippedRow>>,
    },
}

fn more_without(without: usize, first: Option<&SkippedRow>) -> String {
    first.map_or_else(String::new, |row| format!("; {without} more have no attribute for it: {row}"))
}
