//! Evaluates the models of a run or of a folder: losses on the run's rows, and benchmarks.

mod evaluator;
mod published_setting;
mod target;

pub use evaluator::{EvalTables, Evaluator, OpenedBenchmark};
pub use target::{EvalModel, EvalRows, EvalTarget, NamedTemplate};
