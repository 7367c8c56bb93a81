//! Open-ended benchmarks: questions, prompts, judge requests and scores.
//!
//! An evaluation calls [`Questions::read`], then for each turn [`Questions::requests`] with the answers of the earlier
//! turns, then [`Questions::judge_requests`] for the judge and [`JudgedScores::of`] on the judge's verdicts, or
//! [`advbench::Rates`] if a rule classifies the answers. This module neither generates text nor talks to a judge.

pub mod advbench;
mod benchmark;
mod cells;
mod decoding;
mod files;
mod judge_prompts;
mod judge_request;
mod questions;
mod rating;
mod scores;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use benchmark::OpenEndedBenchmark;
pub use decoding::{Candidates, Decoding};
pub use files::QuestionsError;
pub use judge_request::{JudgeRequest, JudgeWording};
pub(super) use questions::is_chosen;
pub use questions::{Question, Questions};
pub(crate) use rating::without_thoughts;
pub use rating::{Rating, RatingRule, rating_in};
pub use scores::{JudgedScores, ScoreTally, ScoredRequest, Unparsable};
