//! What comes of a benchmark: its figures, and every question with its answer.

use serde::{Deserialize, Serialize};

use super::table::Cell;
use crate::generation::{Answer, Ended};

/// One figure of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is of: a subject, category, language, turn or rule; `all` for the whole benchmark.
    pub part: String,
    /// Questions asked.
    pub asked: u64,
    /// Questions without an answer or a judgement.
    pub failed: u64,
    /// The figure, in the benchmark's own unit; none where nothing could be counted.
    pub score: Option<f64>,
}

/// A question that was put to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The question's name within the benchmark.
    pub question: String,
    /// Category, language or subject; empty where it has none.
    pub category: String,
    /// Turn of the dialogue, from 1.
    pub turn: u32,
    pub prompt: String,
    /// None where the prompt did not fit the context.
    pub answer: Option<String>,
    /// How it ended, as tables write it.
    pub ended: String,
    /// [tokens] Tokens generated.
    pub tokens: u32,
    /// What a judge wrote, or what came of executed code.
    pub judgement: Option<String>,
    /// Rating, or 1 and 0 for right and wrong.
    pub score: Option<f64>,
}

/// A benchmark's result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sheet {
    pub figures: Vec<Figure>,
    pub answers: Vec<Answered>,
    /// The same for the paper's table, which nobody makes of a sheet that was stored.
    #[serde(skip)]
    pub cells: Vec<Cell>,
}

impl Sheet {
    /// Says beside the last cell how many prompts did not fit the context: their answers are empty, and count as such.
    #[must_use]
    pub fn with_unfit_noted(mut self) -> Self {
        let unfit = unfit(&self.answers);
        if let Some(cell) = self.cells.last_mut().filter(|_| unfit > 0) {
            let note = format!("{unfit} of {} prompts did not fit the context", self.answers.len());
            cell.remark = if cell.remark.is_empty() { note } else { format!("{}; {note}", cell.remark) };
        }
        self
    }
}

/// Prompts that did not fit the context.
pub fn unfit(answers: &[Answered]) -> u64 {
    answers.iter().filter(|entry| entry.answer.is_none()).count() as u64
}

impl Answered {
    /// An answer in words, without a judgement yet. A prompt that did not fit has none.
    pub fn of(question: &str, category: &str, turn: u32, prompt: String, answer: &Answer) -> Self {
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

/// How an end is written in tables.
fn name_of(ended: Ended) -> &'static str {
    match ended {
        Ended::EndOfSequence => "end_of_sequence",
        Ended::Stop => "stop",
        Ended::MaxTokens => "max_tokens",
        Ended::ContextFull => "context_full",
    }
}
