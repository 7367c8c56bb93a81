//! What can be wrong with a chat template, or with a dialogue put to it.

use std::path::PathBuf;

use crate::data::DatasetError;

/// Why a chat template cannot be used. `template` is always its file and, of several in one file, its name.
#[derive(Debug, thiserror::Error)]
pub enum ChatTemplateError {
    /// A file is missing, unreadable or no JSON.
    #[error(transparent)]
    File(#[from] DatasetError),
    /// The folder has none.
    #[error(
        "failed to find a chat template in {folder}: neither chat_template.jinja nor a chat_template in \
         tokenizer_config.json is there; name a prompt template instead", folder = folder.display()
    )]
    Missing {
        /// The model's folder.
        folder: PathBuf,
    },
    /// The folder has others.
    #[error("failed to find the chat template {name:?} in {path}; there are: {}", known.join(", "), path = path.display())]
    UnknownName {
        /// The file with the templates.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// The template is not Jinja, or a form of it that is not supported.
    #[error("failed to read the chat template {template}: line {line}: {message}")]
    Syntax {
        /// Which template.
        template: String,
        /// Line of the template, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The template refused the dialogue (`raise_exception`), or came upon a value that it cannot use.
    #[error("failed to apply the chat template {template}: line {line}: {message}")]
    Refused {
        /// Which template.
        template: String,
        /// Line of the template, from 1.
        line: usize,
        /// What the template said.
        message: String,
    },
    /// The text would depend on the day.
    #[error(
        "failed to apply the chat template {template}: it asks for the current date (strftime_now), which would make \
         the run depend on the day; put a fixed date into a copy of the template"
    )]
    AsksForDate {
        /// Which template.
        template: String,
    },
    /// The prompt of an answer is not the beginning of the text with the answer, so nothing tells them apart.
    #[error(
        "failed to find the answers under the chat template {template}: what it writes before message {message} \
         changes with what follows, so prompt and answer cannot be told apart; {advice}"
    )]
    NotAPrefix {
        /// Which template.
        template: String,
        /// Index of the answer's message, from 0.
        message: usize,
        /// What may help.
        advice: &'static str,
    },
    /// The template writes nothing for an answer.
    #[error("failed to find the answers under the chat template {template}: it writes nothing for message {message}")]
    EmptyAnswer {
        /// Which template.
        template: String,
        /// Index of the answer's message, from 0.
        message: usize,
    },
}
