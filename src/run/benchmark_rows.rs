//! The rows of the ledger that a benchmark's results become.

use crate::benchmarks::{Answered, Figure};
use crate::ledger::{EvaluationRow, GenerationRow};

/// A sheet's entries as rows of the tables.
pub(crate) struct SheetRows<'a> {
    pub round: u32,
    pub version: u32,
    pub subject: &'a str,
    pub client: Option<u32>,
    /// Hash of the adapter.
    pub hash: Option<String>,
    pub benchmark: &'a str,
}

impl SheetRows<'_> {
    pub fn figure(&self, figure: &Figure) -> EvaluationRow {
        EvaluationRow {
            round: self.round,
            version: self.version,
            subject: self.subject.into(),
            client: self.client,
            benchmark: self.benchmark.into(),
            split: figure.part.clone(),
            rows: figure.asked,
            failed: figure.failed,
            score: figure.score,
            target_tokens: 0,
            loss: None,
            perplexity: None,
            token_accuracy: None,
            reward_margin: None,
            preference_accuracy: None,
            model_hash: self.hash.clone(),
        }
    }

    pub fn answer(&self, answered: Answered) -> GenerationRow {
        GenerationRow {
            round: self.round,
            subject: self.subject.into(),
            client: self.client,
            benchmark: self.benchmark.into(),
            question: answered.question,
            category: answered.category,
            turn: answered.turn,
            prompt: answered.prompt,
            answer: answered.answer,
            ended: answered.ended,
            tokens: answered.tokens,
            model_hash: self.hash.clone(),
            judgement: answered.judgement,
            score: answered.score,
        }
    }
}
