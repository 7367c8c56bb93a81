//! The scenario's template as those who read rows and those who ask questions need it.

use std::path::Path;
use std::sync::Arc;

use super::{RunError, words};
use crate::dataset::{ChatTemplate, Prompts, Template};
use crate::scenario;

/// The template that a scenario names; `folder` is the tokenizer's, where a chat template lies.
///
/// # Errors
/// If the folder has no chat template that can be read, and one is asked for.
pub fn prompts(template: scenario::Template, folder: &Path) -> Result<Prompts, RunError> {
    match words::template(template) {
        Some(template) => Ok(Prompts::Template(template)),
        None => Ok(Prompts::Chat(Arc::new(ChatTemplate::load(folder, None)?))),
    }
}

/// The template of this name, or `chat` for that of the folder.
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
