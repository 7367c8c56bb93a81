//! Why an evaluation did not end well.

use std::io::ErrorKind;

use super::mmlu::QuestionFault;
use super::open_ended::QuestionsError;
use crate::data::ChatTemplateError;
use crate::generation::GenerationError;
use crate::judge::JudgeError;
use crate::sandbox::SandboxError;

/// Errors of benchmarks. A prompt that does not fit, or an answer that nobody can judge, is none: it is in the tables.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// A file of questions cannot be used.
    #[error(transparent)]
    Mmlu(#[from] QuestionFault),
    /// The same of an open-ended benchmark.
    #[error(transparent)]
    Questions(#[from] QuestionsError),
    /// The model's chat template refuses a dialogue.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// The judge cannot be asked at all.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// Generated code is not run.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Generation(#[from] GenerationError),
}

impl EvaluationError {
    /// Whether a benchmark has no file, and not a damaged one.
    pub fn is_missing_file(&self) -> bool {
        match self {
            Self::Questions(QuestionsError::Io { source, .. }) | Self::Mmlu(QuestionFault::Io { source, .. }) => {
                source.kind() == ErrorKind::NotFound
            }
            Self::Mmlu(QuestionFault::Empty { .. }) => true,
            _ => false,
        }
    }

    /// 1 failed; 2 bad usage or data; 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Mmlu(_) | Self::Questions(_) | Self::ChatTemplate(_) | Self::Judge(_) => 2,
            Self::Generation(GenerationError::Configuration { .. } | GenerationError::Letter { .. }) => 2,
            Self::Sandbox(SandboxError::Missing(..) | SandboxError::Unconfined(_)) => 2,
            Self::Generation(GenerationError::Interrupted) => 130,
            Self::Generation(_) | Self::Sandbox(SandboxError::Io(_)) => 1,
        }
    }
}
