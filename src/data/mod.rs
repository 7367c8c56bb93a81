//! Datasets of clients: readers of file formats, prompt templates, tokenization, hold-out splits and batches.
//!
//! [`Federation::read`] reads rows from disk. A [`Template`], or the model's own [`ChatTemplate`], turns a row into a
//! prompt and an answer. [`tokenize()`] produces a [`Sample`] with its target positions, [`hold_out()`] sets rows aside
//! for evaluation, and [`round_rows`] chooses the rows that a task trains on. Nothing in this module depends on
//! tensors, models or virtual time, and every random draw comes from a named stream.

mod batches;
mod chat_template;
mod columns;
mod content;
mod conversation;
mod csv_lines;
mod error;
mod federation;
mod fields;
mod file_form;
mod folder;
mod hold_out;
mod intake;
mod json_value;
mod masking;
mod message;
mod pair_columns;
mod parquet_rows;
mod partition;
mod preference;
mod published_batches;
mod reason;
mod row;
mod rows_in_csv;
mod rows_in_json;
mod rows_in_lines;
mod sample;
mod scanner;
mod source;
mod split;
mod statistics;
mod template;
mod tokenize;
mod tokenized_rows;
mod tokenizer;
mod tokenizer_files;
mod tool_conversation;
mod twin;
mod value_end;
mod walk;

pub use batches::round_rows;
pub use chat_template::{ChatTemplate, ChatTemplateError, Dialogue};
pub use columns::Columns;
pub use content::{Content, Exchange, RowKind};
pub(crate) use csv_lines::LineCount;
pub use error::{DatasetError, PartitionError, RowFault, SkippedRow, TokenizerError};
pub use federation::{ClientData, Federation};
pub use file_form::{BadRows, FileForm, LOCAL_CLIENT};
pub use hold_out::{HoldOut, held_out_rows, hold_out};
pub use json_value::JsonValue;
pub use masking::{after_last_key, holds_key, key_ids};
pub use message::{ChatMessage, Message, Role};
pub use partition::{Dealt, Partition, partition};
pub use preference::{
    PairForm, Preference, RawPrompt, TokenizedPreferences, tokenize_preferences, tokenize_usable_preferences,
};
pub use published_batches::{PublishedSubset, StepShape, published_steps};
pub use reason::Reason;
pub use row::{Row, RowPlace};
pub use sample::Sample;
pub use split::{SplitFile, write_split};
pub use statistics::{ClientStatistics, Ruler, Spread, Statistics, Tally};
pub use template::Template;
pub use tokenize::{LongPrompts, Prompts, SequenceRules, SpecialTokensInText, Tokenized, tokenize, tokenize_usable};
pub use tokenized_rows::{ClientRows, Rows};
pub use tokenizer::{Encoded, Tokenizer};
pub use twin::{Twin, TwinForm, TwinManifest, TwinSettings, twin_of, write_twin};
pub use walk::Walk;
