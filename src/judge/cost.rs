//! Costs of judging in requests, tokens and money: estimated in advance, and counted afterwards.

use super::types::ChatPrompt;
use super::types::{Judgment, Verdict};

/// [token] -- Tokens that roles and separators add to a chat of two messages. No known chat format adds more.
const CHAT_OVERHEAD_TOKENS: u64 = 16;

/// Prices of tokens, in any currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Price of a million prompt tokens.
    pub prompt_per_million: f64,
    /// Price of a million tokens of judgments.
    pub completion_per_million: f64,
}

/// Counts of requests and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// An upper bound of the cost of judging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostEstimate {
    /// Number of judgments in the store, which cost nothing.
    pub stored: u64,
    /// Upper bound of the requests to send. Counts one token per byte of a known text (no token of a byte-level
    /// tokenizer is shorter), one token of the judge per token of an unknown answer, and judgments of maximum length.
    pub to_ask: Usage,
}

impl Usage {
    /// Returns the cost, in the currency of the prices.
    pub fn cost(&self, prices: &Prices) -> f64 {
        let prompts = self.prompt_tokens as f64 * prices.prompt_per_million / 1e6;
        let completions = self.completion_tokens as f64 * prices.completion_per_million / 1e6;
        prompts + completions
    }

    /// Returns the usage of one judgment. Counts that the endpoint does not report are estimated from the texts.
    pub(super) fn of(prompt: &ChatPrompt, judgment: &Judgment) -> Self {
        let mut usage =
            Self { requests: 1, prompt_tokens: judgment.prompt_tokens, completion_tokens: judgment.completion_tokens };
        if usage.prompt_tokens == 0 {
            usage.prompt_tokens = prompt_tokens_about(prompt);
        }
        if usage.completion_tokens == 0 {
            usage.completion_tokens = tokens_about(&judgment.text);
        }
        usage
    }

    /// Returns the usage of the judgments among `verdicts` that were received now; the verdicts are in the order of
    /// `prompts`. Stored ones cost nothing.
    pub fn of_fresh(prompts: &[ChatPrompt], verdicts: &[Verdict]) -> Self {
        let mut usage = Self::default();
        for (prompt, verdict) in prompts.iter().zip(verdicts) {
            if let Verdict::Fresh(judgment) | Verdict::Unusable(judgment, _) = verdict {
                usage = usage.plus(Self::of(prompt, judgment));
            }
        }
        usage
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
        }
    }
}

impl CostEstimate {
    pub(super) fn with_stored(self) -> Self {
        Self { stored: self.stored + 1, ..self }
    }

    /// Adds a prompt, about answers of at most `answer_tokens_max` tokens that are not in its text yet.
    pub(super) fn with(self, prompt: &ChatPrompt, answer_tokens_max: u64, judgment_tokens_max: u32) -> Self {
        // A token has at least one byte, so the bytes of the texts bound their tokens.
        let bytes = prompt.system.len() + prompt.user.len();
        let asked = Usage {
            requests: 1,
            prompt_tokens: bytes as u64 + CHAT_OVERHEAD_TOKENS + answer_tokens_max,
            completion_tokens: u64::from(judgment_tokens_max),
        };
        Self { to_ask: self.to_ask.plus(asked), ..self }
    }

    /// Returns the sum of two estimates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { stored: self.stored + other.stored, to_ask: self.to_ask.plus(other.to_ask) }
    }
}

fn prompt_tokens_about(prompt: &ChatPrompt) -> u64 {
    tokens_about(&prompt.system) + tokens_about(&prompt.user) + CHAT_OVERHEAD_TOKENS
}

/// [token] -- Estimates the length of a text for tokenizers of chat models: one token per four ASCII characters, and
/// one per character of another script.
pub fn tokens_about(text: &str) -> u64 {
    let ascii = text.chars().filter(char::is_ascii).count() as u64;
    let other = text.chars().count() as u64 - ascii;
    ascii.div_ceil(4) + other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_follow_tokens() {
        let prices = Prices { prompt_per_million: 30.0, completion_per_million: 60.0 };
        let usage = Usage { requests: 160, prompt_tokens: 100_000, completion_tokens: 50_000 };
        assert_eq!(usage.cost(&prices), 6.0);
        assert_eq!(tokens_about("abcde"), 2);
        assert_eq!(tokens_about("मध्य"), 4);
    }
}
