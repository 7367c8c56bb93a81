//! Translation of the scenario's prompt template, for tokenizing rows and for asking questions.

use std::path::Path;
use std::sync::Arc;

use super::{RunError, words};
use crate::dataset::{ChatTemplate, Prompts, Template};
use crate::scenario;

/// Returns the template that a scenario names. `folder` is the tokenizer's, which contains the chat template.
///
/// # Errors
/// If the scenario names the chat template and the folder has none that can be read.
pub fn prompts(template: scenario::Template, folder: &Path) -> Result<Prompts, RunError> {
    match words::template(template) {
        Some(template) => Ok(Prompts::Template(template)),
        None => Ok(Prompts::Chat(Arc::new(ChatTemplate::load(folder, None)?))),
    }
}

/// Returns the template of this name, or the folder's chat template for `chat`.
///
/// # Errors
/// As [`prompts`]; and if there is no such template.
pub fn prompts_named(name: &str, folder: &Path) -> Result<Prompts, RunError> {
    if name == "chat" {
        return prompts(scenario::Template::Chat, folder);
    }
    Template::named(name).map(Prompts::Template).ok_or_else(|| {
        let names: Vec<&str> = Template::names().chain(["chat"]).collect();
        RunError::Usage(format!("failed to find the template `{name}`: there are {}", names.join(", ")))
    })
}
