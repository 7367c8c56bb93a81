//! What came of an inquiry.

use serde::{Deserialize, Serialize};

/// What a judge said, and what it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The judge's words.
    pub text: String,
    /// The model that the endpoint says it used, which may be more exact than the one that was asked for.
    pub model: String,
    /// [tokens] Prompt, as the endpoint counts it; 0 where it does not say.
    pub prompt_tokens: u64,
    /// [tokens] Judgement, as the endpoint counts it; 0 where it does not say.
    pub completion_tokens: u64,
}

/// The end of an inquiry. A failure is recorded and asked again another time; it never costs a finished judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Asked now.
    Fresh(Judgement),
    /// Found in the store; nothing was asked.
    Stored(Judgement),
    /// Not to be had, and why.
    Failed(String),
}

impl Verdict {
    /// The judgement, if there is one.
    pub fn judgement(&self) -> Option<&Judgement> {
        match self {
            Self::Fresh(judgement) | Self::Stored(judgement) => Some(judgement),
            Self::Failed(_) => None,
        }
    }
}
