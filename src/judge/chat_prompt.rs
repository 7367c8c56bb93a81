//! Chat prompts for a judge.

use serde::{Deserialize, Serialize};

/// A chat prompt for a judge: a system message, a user message, and the settings of the response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatPrompt {
    pub system: String,
    pub user: String,
    /// [1] -- The benchmark's temperature. A judge's settings may override it.
    pub temperature: f64,
    /// [token] -- Maximum length of the judgment.
    pub max_tokens: u32,
}
