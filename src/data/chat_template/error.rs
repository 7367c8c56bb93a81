//! Errors in a chat template, or in the dialogue that it renders.

use std::path::PathBuf;

use crate::data::DatasetError;

/// The reason why a chat template cannot be used. `template` is always its file and, if the file has several, its name.
#[derive(Debug, thiserror::Error)]
pub enum ChatTemplateError {
    /// A file is missing, unreadable or not JSON.
    #[error(transparent)]
    File(#[from] DatasetError),
    /// The folder has no chat template.
    #[error(
        "failed to find a chat template in {folder}: neither chat_template.jinja nor a chat_template in \
         tokenizer_config.json is there; name a prompt template instead", folder = folder.display()
    )]
    Missing {
        /// The model's folder.
        folder: PathBuf,
    },
    /// The folder has no template with this name.
    #[error("failed to find the chat template {name:?} in {path}; there are: {}", known.join(", "), path = path.display())]
    UnknownName {
        /// The file with the templates.
        path: PathBuf,
        /// The name that was requested.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The template is not Jinja, or uses a feature that is not supported.
    #[error("failed to read the chat template {template}: line {line}: {message}")]
    Syntax {
        /// File and name of the template.
        template: String,
        /// Line of the template, from 1.
        line: usize,
        /// The engine's message.
        message: String,
    },
    /// The template refused the dialogue (`raise_exception`), or failed on a value that it cannot use.
    #[error("failed to apply the chat template {template}: line {line}: {message}")]
    Refused {
        /// File and name of the template.
        template: String,
        /// Line of the template, from 1.
        line: usize,
        /// The template's message.
        message: String,
    },
    /// The text would depend on the current date.
    #[error(
        "failed to apply the chat template {template}: it asks for the current date (strftime_now), which would make \
         the run depend on the day; data.template_date, or --template-date of eval, sets a date"
    )]
    AsksForDate {
        /// File and name of the template.
        template: String,
    },
    /// The prompt of an answer is not a prefix of the text with the answer, so the two cannot be told apart.
    #[error(
        "failed to find the answers under the chat template {template}: what it writes before message {message} \
         changes with what follows, so prompt and answer cannot be told apart; {advice}"
    )]
    NotAPrefix {
        /// File and name of the template.
        template: String,
        /// Index of the answer's message, from 0.
        message: usize,
        /// Advice to the user.
        advice: &'static str,
    },
    /// The template renders nothing for an answer.
    #[error("failed to find the answers under the chat template {template}: it writes nothing for message {message}")]
    EmptyAnswer {
        /// File and name of the template.
        template: String,
        /// Index of the answer's message, from 0.
        message: usize,
    },
    /// The template has no place for calls of tools, their results or their schemas.
    #[error(
        "failed to apply the chat template {template}: it leaves out {what}; use a model whose chat template supports tools"
    )]
    LeavesOut {
        /// File and name of the template.
        template: String,
        /// The part that is left out.
        what: String,
    },
}
