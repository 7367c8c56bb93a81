//! The result of a benchmark: its metrics, and every question with its answer.

use serde::{Deserialize, Serialize};

use super::table::BenchmarkCell;
use crate::generation::{Answer, Ended};

/// A metric of one model on one part of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Name of the part: a subject, category, language, turn or rule; `all` for the whole benchmark.
    pub part: String,
    /// Number of questions.
    pub asked: u64,
    /// Number of questions without an answer or a judgment.
    pub failed: u64,
    /// The metric's value, in the benchmark's own unit. `None` if nothing was scored.
    pub score: Option<f64>,
}

/// A question with the model's answer and its score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The question's name within the benchmark.
    pub question: String,
    /// Category, language or subject. Empty if it has none.
    pub category: String,
    /// Turn of the dialog, from 1.
    pub turn: u32,
    pub prompt: String,
    /// The answer. `None` if the prompt did not fit the context.
    pub answer: Option<String>,
    /// Why the answer ended, as written in tables.
    pub ended: String,
    /// [token] -- Number of tokens generated.
    pub tokens: u32,
    /// The judge's text, or the outcome of executed code.
    pub judgement: Option<String>,
    /// The rating, or 1 for right and 0 for wrong.
    pub score: Option<f64>,
}

/// The result of a benchmark for one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkResult {
    pub figures: Vec<Metric>,
    pub answers: Vec<Response>,
    /// The metrics as cells of the paper's table. They are not stored: no table is made from a stored result.
    #[serde(skip)]
    pub cells: Vec<BenchmarkCell>,
}

impl BenchmarkResult {
    /// Adds a remark to the last cell if prompts did not fit the context. Their answers are empty and are scored as
    /// such.
    #[must_use]
    pub fn with_unfit_noted(self) -> Self {
        match unfit(&self.answers) {
            0 => self,
            unfit => {
                let note = format!("{unfit} of {} prompts did not fit the context", self.answers.len());
                self.noted(note)
            }
        }
    }

    /// Adds a remark to the last cell if only some of the benchmark's questions were asked.
    #[must_use]
    pub fn with_limit_noted(self, asked: usize, all: usize) -> Self {
        if asked < all { self.noted(format!("{asked} of {all} questions asked, spread evenly")) } else { self }
    }

    /// Adds a remark to the last cell.
    #[must_use]
    pub fn noted(mut self, note: String) -> Self {
        if let Some(cell) = self.cells.last_mut() {
            cell.remark = if cell.remark.is_empty() { note } else { format!("{}; {note}", cell.remark) };
        }
        self
    }
}

/// Counts the prompts that did not fit the context.
pub fn unfit(answers: &[Response]) -> u64 {
    answers.iter().filter(|entry| entry.answer.is_none()).count() as u64
}

impl Response {
    /// Builds the response for a text answer that is not judged yet. A prompt that did not fit the context has no
    /// answer.
    pub fn of(question: &str, category: &str, turn: u32, prompt: String, answer: &Answer) -> Self {
        // An answer that fills the context after some tokens also ends with `ContextFull`.
        let fitted = answer.ended != Ended::ContextFull || answer.tokens > 0;
        Self {
            question: question.into(),
            category: category.into(),
            turn,
            prompt,
            answer: fitted.then(|| answer.text.clone()),
            ended: name_of(answer.ended).into(),
            tokens: answer.tokens,
            judgement: None,
            score: None,
        }
    }
}

/// Returns the name of an end reason in tables.
fn name_of(ended: Ended) -> &'static str {
    match ended {
        Ended::EndOfSequence => "end_of_sequence",
        Ended::Stop => "stop",
        Ended::MaxTokens => "max_tokens",
        Ended::ContextFull => "context_full",
    }
}
