//! Data as clients hold it: readers of on-disk forms, prompt templates, tokenisation, hold-out splits and batches.
//!
//! The path of a row: [`Federation::read`] takes it off the disk, [`Template`] says how it is put to the model (or
//! [`ChatTemplate`], where the model's folder says it), [`tokenise`] turns it into a [`Sample`] with its learnt
//! positions, [`hold_out`] keeps some rows back, and [`round_rows`] says which of the rest a task trains on. Nothing here
//! knows of tensors, models or virtual time, and no draw is made outside of a named stream.

mod batches;
mod chat_template;
mod columns;
mod content;
mod conversation;
mod error;
mod exercise;
mod federation;
mod file_form;
mod hold_out;
mod json_fields;
mod masking;
mod parquet_rows;
mod partition;
mod preference;
mod published_batches;
mod row;
mod rows_in_json;
mod ruler;
mod sample;
mod source;
mod split;
mod statistics;
mod template;
mod tokenise;
mod tokeniser;
mod tokenized_rows;
mod twin;
mod walk;

pub use batches::round_rows;
pub use chat_template::{ChatTemplate, ChatTemplateError, Dialogue, Message, Role};
pub use columns::Columns;
pub use content::{Content, Exchange, RowKind};
pub use error::{DatasetError, RowFault};
pub use exercise::read_in_every_way;
pub use federation::{ClientData, Federation};
pub use file_form::{BadRows, FileForm, LOCAL_CLIENT, SkippedRow};
pub use hold_out::{HoldOut, hold_out};
pub use masking::{after_last_key, holds_key, key_ids};
pub use partition::{Partition, partition};
pub use preference::{PairForm, Preference, TokenisedPreferences, tokenise_preferences};
pub use published_batches::{PublishedSubset, StepShape, published_steps};
pub use row::Row;
pub use ruler::Ruler;
pub use sample::Sample;
pub use split::{SplitFile, write_split};
pub use statistics::{ClientStatistics, Spread, Statistics, Tally};
pub use template::Template;
pub use tokenise::{LongPrompts, Prompts, SequenceRules, Tokenised, tokenise};
pub use tokeniser::{Encoded, Tokeniser};
pub use tokenized_rows::{ClientRows, Rows};
pub use twin::{Twin, TwinForm, TwinManifest, TwinSettings, twin_of, write_twin};
pub use walk::Walk;
