//! Benchmarks of trained models: questions, prompts, responses, metrics and the table of scores.
//!
//! [`open()`] loads a benchmark as a [`Benchmark`]; [`Benchmark::evaluate`] runs it on a
//! [`CachedModel`](crate::generation::CachedModel), a model with cached answers, and returns a [`BenchmarkResult`] of
//! metrics and answers. Only [`crate::generation`] depends on LibTorch: benchmarks see a
//! [`LanguageModel`](crate::generation::LanguageModel) that continues texts, and judges see texts only.

mod benchmark;
mod catalog;
pub mod human_eval;
pub mod mmlu;
pub mod open_ended;
mod result;
mod setup;
mod table;

pub use benchmark::{Benchmark, BenchmarkOptions, Cost, EvalContext};
pub use catalog::{BenchmarkName, OpenEnded, UnknownBenchmark};
pub(crate) use result::unfit;
pub use result::{BenchmarkResult, Metric, Response};
pub use setup::EvalOptions;
pub(crate) use setup::EvalSetup;
pub use table::{BenchmarkCell, BenchmarkTable, BenchmarkTableRow, PUBLISHED, PublishedScores, Setting};

use std::io::ErrorKind;

use crate::data::ChatTemplateError;
use crate::generation::GenerationError;
use crate::judge::JudgeError;
use crate::sandbox::SandboxError;
use human_eval::HumanEval;
use mmlu::{Mmlu, QuestionFault};
use open_ended::{OpenEndedBenchmark, QuestionsError};

/// An error that ends an evaluation. A prompt that does not fit or an answer that cannot be judged is not an error: the
/// tables record it.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// MMLU's question files cannot be used.
    #[error(transparent)]
    Mmlu(#[from] QuestionFault),
    /// The question file of an open-ended benchmark or HumanEval cannot be used.
    #[error(transparent)]
    Questions(#[from] QuestionsError),
    /// The model's chat template refuses a dialog.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// The judge cannot be set up.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// Generated code cannot be run in a sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The model failed, or the evaluation was interrupted.
    #[error(transparent)]
    Generation(#[from] GenerationError),
}

impl EvaluationError {
    /// Returns whether a benchmark's file is missing, as opposed to damaged.
    pub fn is_missing_file(&self) -> bool {
        match self {
            Self::Questions(QuestionsError::Io { source, .. }) | Self::Mmlu(QuestionFault::Io { source, .. }) => {
                source.kind() == ErrorKind::NotFound
            }
            Self::Mmlu(QuestionFault::Empty { .. }) => true,
            _ => false,
        }
    }
}

/// Reads a benchmark's questions. `None` for a benchmark that runs generated code where `options` do not allow it.
///
/// # Errors
/// If a file cannot be read, a question lacks a field, or the host cannot confine code.
pub fn open(
    benchmark: BenchmarkName,
    options: &BenchmarkOptions,
) -> Result<Option<Box<dyn Benchmark>>, EvaluationError> {
    Ok(match benchmark {
        BenchmarkName::Open(open) => Some(Box::new(OpenEndedBenchmark::read(open, options)?)),
        BenchmarkName::Mmlu => Some(Box::new(Mmlu::read(&options.data.join("mmlu"), options)?)),
        BenchmarkName::HumanEval if options.runs_code => Some(Box::new(HumanEval::read(options)?)),
        BenchmarkName::HumanEval => None,
    })
}
