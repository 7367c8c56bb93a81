//! What a benchmark asks of a model, whatever computes the answer.

use serde::{Deserialize, Serialize};

/// How the next token is chosen, and when to end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// [1] Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// [1] Smallest probability mass that the candidates keep; 1 keeps all.
    pub top_p: f64,
    /// [tokens] Number of likeliest tokens that stay candidates; none keeps all.
    pub top_k: Option<u32>,
    /// [tokens] Length at which an answer is cut.
    pub max_tokens: u32,
    /// Texts that end an answer, and are no part of it.
    pub stop: Vec<String>,
}

/// A text to be continued. The answer is a function of the model and of this alone, whatever else is asked beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The whole prompt, its template applied.
    pub prompt: String,
    pub sampling: Sampling,
    /// Names the random draws of the answer, under the evaluation's seed.
    pub stream: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The model said that it was done.
    EndOfSequence,
    /// One of the request's stop texts appeared.
    Stop,
    /// The request's length was reached.
    MaxTokens,
    /// The model's context was full; of a prompt that does not fit it, the answer is empty.
    ContextFull,
}

/// What a model answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The continuation, without special tokens and stop text.
    pub text: String,
    /// [tokens] Tokens generated, the last one included.
    pub tokens: u32,
    pub ended: Ended,
}

/// Anything that continues texts.
pub trait Model {
    /// Why no answer could be computed.
    type Error;

    /// One answer a request, in their order.
    ///
    /// # Errors
    /// If the computation fails; a prompt that is too long is an answer, not an error.
    fn generate(&self, requests: &[Request]) -> Result<Vec<Answer>, Self::Error>;
}
