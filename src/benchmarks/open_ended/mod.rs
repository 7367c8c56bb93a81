//! Open-ended benchmarks: questions from files, what a model is asked, what is judged, and what the ratings come to.
//!
//! The way of an evaluation: [`Questions::read`], then for each turn [`Questions::requests`] with the answers of the
//! turns before, then [`Questions::exams`] for a judge and [`JudgedScores::of`] his verdicts, or
//! [`advbench::Rates`] where a rule decides. Nothing here computes an answer or knows how a judge is reached.

pub mod advbench;
mod benchmark;
mod cells;
mod decoding;
mod error;
mod files;
mod fill;
mod judge_prompts;
mod judge_request;
mod questions;
mod rating;
mod scores;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use benchmark::Open;
pub use decoding::{Candidates, Decoding};
pub use error::QuestionsError;
pub use judge_request::{Exam, JudgeWording};
pub(super) use questions::is_chosen;
pub use questions::{Question, Questions};
pub use rating::{Rating, RatingRange, rating_in};
pub use scores::{JudgedScores, ScoredExam, Tally, Unparsable};
