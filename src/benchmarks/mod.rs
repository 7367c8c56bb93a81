//! Benchmarks of trained models: questions, prompts, responses, metrics and the table of scores.
//!
//! [`open()`] loads a benchmark as a [`Benchmark`]; [`Benchmark::evaluate`] runs it on a
//! [`CachedModel`](crate::generation::CachedModel), a model with cached answers, and returns a [`BenchmarkResult`] of
//! metrics and answers. Only [`crate::generation`] depends on LibTorch: benchmarks see a
//! [`LanguageModel`](crate::generation::LanguageModel) that continues texts, and judges see texts only.

mod benchmark;
mod catalog;
mod error;
pub mod human_eval;
pub mod mmlu;
pub mod open_ended;
mod registry;
mod result;
mod setup;
mod table;

pub use benchmark::{Benchmark, BenchmarkOptions, Cost, EvalContext};
pub use catalog::{BenchmarkName, OpenEnded, UnknownBenchmark};
pub use error::EvaluationError;
pub use registry::open;
pub(crate) use result::unfit;
pub use result::{BenchmarkResult, Metric, Response};
pub use setup::EvalOptions;
pub(crate) use setup::EvalSetup;
pub use table::{BenchmarkCell, BenchmarkTable, BenchmarkTableRow, PUBLISHED, PublishedScores, Setting};
