//! Conversion of the results of a benchmark into rows of the ledger.

use crate::benchmarks::{Metric, Response};
use crate::ledger::{EvalSubject, EvaluationRow, GenerationRow, Split};

/// Identity of a benchmark result, from which its rows in the tables are made.
pub(crate) struct BenchmarkRows<'a> {
    pub round: u32,
    pub version: u32,
    pub subject: EvalSubject,
    pub client: Option<u32>,
    /// Hash of the model's adapter.
    pub hash: Option<String>,
    pub benchmark: &'a str,
}

impl BenchmarkRows<'_> {
    /// Returns the row of a metric.
    pub fn figure(&self, figure: &Metric) -> EvaluationRow {
        EvaluationRow {
            round: self.round,
            version: self.version,
            subject: self.subject,
            client: self.client,
            benchmark: self.benchmark.into(),
            split: Split::of_benchmark(&figure.part),
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

    /// Returns the row of a response.
    pub fn response(&self, response: Response) -> GenerationRow {
        GenerationRow {
            round: self.round,
            subject: self.subject,
            client: self.client,
            benchmark: self.benchmark.into(),
            question: response.question,
            category: response.category,
            turn: response.turn,
            prompt: response.prompt,
            answer: response.answer,
            ended: response.ended,
            tokens: response.tokens,
            model_hash: self.hash.clone(),
            judgement: response.judgement,
            score: response.score,
        }
    }
}
