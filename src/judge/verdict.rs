//! Outcomes of prompts.

use serde::{Deserialize, Serialize};

/// A judge's response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgment {
    /// The judge's text.
    pub text: String,
    /// The model that the endpoint reports, which may be more specific than the requested one.
    pub model: String,
    /// [token] -- Length of the prompt, as counted by the endpoint. 0 if it does not report it.
    pub prompt_tokens: u64,
    /// [token] -- Length of the judgment, as counted by the endpoint. 0 if it does not report it.
    pub completion_tokens: u64,
}

/// The outcome of a prompt. A failed one is asked again in the next evaluation; finished judgments are never lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The judgment of a request that was sent now.
    Fresh(Judgment),
    /// A judgment from the store.
    Stored(Judgment),
    /// No judgment, and why.
    Failed(String),
}

impl Verdict {
    /// Returns the judgment, if there is one.
    pub fn judgment(&self) -> Option<&Judgment> {
        match self {
            Self::Fresh(judgment) | Self::Stored(judgment) => Some(judgment),
            Self::Failed(_) => None,
        }
    }
}
