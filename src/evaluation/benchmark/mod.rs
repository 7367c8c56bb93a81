//! Open-ended benchmarks: questions, prompts, judge requests and scores.
//!
//! An evaluation calls [`Questions::read`], then for each turn [`Questions::requests`] with the answers of the earlier
//! turns, then [`Questions::exams`] for the judge and [`JudgedScores::of`] on the judge's verdicts, or
//! [`advbench::Rates`] if a rule classifies the answers. This module neither generates text nor talks to a judge.

pub mod advbench;
mod catalog;
mod decoding;
mod error;
mod exam;
mod figures;
mod files;
mod fill;
mod judge_prompts;
mod prompting;
mod published;
mod questions;
mod rating;
mod scores;
mod table;
#[cfg(test)]
pub(super) mod tests;

pub use catalog::{Benchmark, OpenEnded, UnknownBenchmark};
pub use decoding::{Candidates, Decoding};
pub use error::QuestionsError;
pub use exam::{Exam, JudgeWording};
pub use prompting::Prompting;
pub use published::{PUBLISHED, Published};
pub(super) use questions::is_chosen;
pub use questions::{Question, Questions};
pub use rating::{Rating, RatingRange, rating_in};
pub use scores::{JudgedScores, ScoredExam, Tally, Unparsable};
pub use table::{Cell, Row, Setting, Table};
