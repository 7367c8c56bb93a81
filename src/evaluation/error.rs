//! Errors of evaluations.

use std::io::ErrorKind;

use super::benchmark::QuestionsError;
use super::code::SandboxError;
use super::generation::GenerationError;
use super::judge::JudgeError;
use super::mmlu::QuestionFault;
use crate::dataset::ChatTemplateError;

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

    /// Returns the exit code: 1 for a failure, 2 for bad usage or data, 130 for an interruption.
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
