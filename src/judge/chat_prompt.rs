//! What a judge is asked.

use serde::{Deserialize, Serialize};

/// One question to a judge: a system message, a user message, and how to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inquiry {
    pub system: String,
    pub user: String,
    /// [1] The benchmark's temperature; a judge's settings may put another in its place.
    pub temperature: f64,
    /// [tokens] Length at which the judgement is cut.
    pub max_tokens: u32,
}
