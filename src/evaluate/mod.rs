//! Evaluates the models of a run or of a folder: losses on the run's rows, and benchmarks.

mod evaluator;
mod published_setting;
mod target;

pub use evaluator::{Examination, Findings, Opened};
pub use target::{Examined, ExaminedModel, ExaminedRows};
