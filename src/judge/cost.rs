//! What judging takes: requests, tokens, money; counted afterwards and estimated before.

use super::chat_prompt::Inquiry;
use super::verdict::{Judgement, Verdict};

/// [token] What the roles and separators of a chat add to its two messages: no known chat format adds more.
const CHAT_OVERHEAD_TOKENS: u64 = 16;

/// What tokens cost, in a currency that only the user needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// For a million tokens of prompts.
    pub prompt_per_million: f64,
    /// For a million tokens of judgements.
    pub completion_per_million: f64,
}

/// Requests and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// The most that judging would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Judgements that are in the store, and cost nothing.
    pub stored: u64,
    /// What is to be asked: a token for each byte of a text that is known, one of the judge's for each that an answer may
    /// have, and judgements as long as they may be. Byte-level tokenizers have no shorter tokens than a byte.
    pub to_ask: Usage,
}

impl Usage {
    /// What it costs, in the currency of the prices.
    pub fn cost(&self, prices: &Prices) -> f64 {
        let cost = |tokens: u64, per_million: f64| tokens as f64 * per_million / 1e6;
        cost(self.prompt_tokens, prices.prompt_per_million)
            + cost(self.completion_tokens, prices.completion_per_million)
    }

    /// The tokens of one judgement. An endpoint that does not count is counted for, by the texts.
    pub(super) fn of(inquiry: &Inquiry, judgement: &Judgement) -> Self {
        let counted = |tokens: u64, about: u64| if tokens > 0 { tokens } else { about };
        Self {
            requests: 1,
            prompt_tokens: counted(judgement.prompt_tokens, prompt_tokens_about(inquiry)),
            completion_tokens: counted(judgement.completion_tokens, tokens_about(&judgement.text)),
        }
    }

    /// What the fresh ones of `verdicts` took; `inquiries` are theirs. What the store held cost nothing again.
    pub fn of_fresh(inquiries: &[Inquiry], verdicts: &[Verdict]) -> Self {
        let fresh = inquiries.iter().zip(verdicts).filter_map(|(inquiry, verdict)| match verdict {
            Verdict::Fresh(judgement) => Some(Self::of(inquiry, judgement)),
            Verdict::Stored(_) | Verdict::Failed(_) => None,
        });
        fresh.fold(Self::default(), Self::plus)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
        }
    }
}

impl Estimate {
    pub(super) fn with_stored(self) -> Self {
        Self { stored: self.stored + 1, ..self }
    }

    /// One inquiry more, about answers of so many tokens that are not in its text yet.
    pub(super) fn with(self, inquiry: &Inquiry, answer_tokens_max: u64, judgement_tokens_max: u32) -> Self {
        let bytes = inquiry.system.len() + inquiry.user.len();
        let asked = Usage {
            requests: 1,
            prompt_tokens: bytes as u64 + CHAT_OVERHEAD_TOKENS + answer_tokens_max,
            completion_tokens: u64::from(judgement_tokens_max),
        };
        Self { to_ask: self.to_ask.plus(asked), ..self }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { stored: self.stored + other.stored, to_ask: self.to_ask.plus(other.to_ask) }
    }
}

fn prompt_tokens_about(inquiry: &Inquiry) -> u64 {
    tokens_about(&inquiry.system) + tokens_about(&inquiry.user) + CHAT_OVERHEAD_TOKENS
}

/// [token] About how many tokens a text has for tokenizers of chat models: four characters of ASCII, or one of another
/// script.
pub fn tokens_about(text: &str) -> u64 {
    let (ascii, other) = text.chars().fold((0_u64, 0_u64), |(ascii, other), c| match c.is_ascii() {
        true => (ascii + 1, other),
        false => (ascii, other + 1),
    });
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
