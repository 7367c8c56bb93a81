//! Prompts for a judge, its judgments, and errors in setting it up.

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
    /// A judgment that was received now and cannot be used, since it was cut off or is empty, and why. It was paid for.
    Unusable(Judgment, String),
    /// No judgment, and why.
    Failed(String),
}

impl Verdict {
    /// Returns the judgment, if there is one that can be used.
    pub fn judgment(&self) -> Option<&Judgment> {
        match self {
            Self::Fresh(judgment) | Self::Stored(judgment) => Some(judgment),
            Self::Unusable(..) | Self::Failed(_) => None,
        }
    }
}

/// An invalid setting of a judge: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A value out of range.
    #[error("failed to set up the judge: {setting} is {value}; {allowed}")]
    Setting { setting: &'static str, value: String, allowed: &'static str },
    /// A key with characters that no HTTP header may contain. The message does not show it.
    #[error("failed to set up the judge: the key in {variable} holds characters that no HTTP header can carry")]
    Key { variable: String },
}
