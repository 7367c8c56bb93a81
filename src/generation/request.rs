//! Requests for generated text and their answers, independent of the engine that computes them.

use serde::{Deserialize, Serialize};

use crate::data::ChatTemplate;

/// How the next token is chosen, and when an answer ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// [1] -- Divisor of the logits. 0 always takes the most likely token.
    pub temperature: f64,
    /// [1] -- Probability mass of nucleus sampling. 1 keeps all candidates.
    pub top_p: f64,
    /// [token] -- Number of most likely tokens that stay candidates. `None` keeps all.
    pub top_k: Option<u32>,
    /// [token] -- Maximum length of an answer.
    pub max_tokens: u32,
    /// Texts that end an answer and are not part of it.
    pub stop: Vec<String>,
    /// Whether stop texts in a fenced code block of Markdown do not count.
    ///
    /// Serialized only where it is set, so that other requests keep the keys of their stored answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spares_code_blocks: bool,
}

/// The text of a prompt, with the way in which it becomes tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PromptText {
    /// A text as it is, as by `tokenizer(text)` of Transformers: after BOS where the tokenizer uses one, with the special
    /// tokens that are written out in it.
    Raw(String),
    /// The output of a chat template, as by `apply_chat_template`: it has all its special tokens in writing, BOS too.
    Chat(String),
    /// A dialogue under a prompt template, tokenized as the rows of training are.
    Turns {
        /// The turns. Each but the last ends with an answer, which the EOS token closes.
        turns: Vec<String>,
        /// Text of the EOS token, for tables.
        end: String,
    },
}

impl PromptText {
    /// Returns the text, with the special tokens between turns in writing.
    pub fn text(&self) -> String {
        match self {
            Self::Raw(text) => text.clone(),
            Self::Chat(text) => ChatTemplate::unmarked(text),
            Self::Turns { turns, end } => turns.join(end),
        }
    }
}

/// A text to be continued. Its answer depends on the model and on this request alone, not on the other requests of a
/// batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The whole prompt, with the template applied.
    pub prompt: PromptText,
    pub sampling: Sampling,
    /// Identifier of the answer's random stream, under the evaluation's seed.
    pub stream: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The model generated an end token.
    EndOfSequence,
    /// One of the request's stop texts appeared.
    Stop,
    /// The request's maximum length was reached.
    MaxTokens,
    /// The model's context is full. The answer to a prompt that does not fit is empty.
    ContextFull,
}

/// A model's answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The continuation, without special tokens and stop text.
    pub text: String,
    /// [token] -- Number of tokens generated, the last one included.
    pub tokens: u32,
    pub ended: Ended,
}

/// A model that continues texts.
pub trait LanguageModel {
    /// Error of a failed generation.
    type Error;

    /// Generates one answer per request, in their order.
    ///
    /// # Errors
    /// If the computation fails. A prompt that is too long is not an error: its answer is empty.
    fn generate(&self, requests: &[Request]) -> Result<Vec<Answer>, Self::Error>;
}
