//! Errors of evaluations.

use std::io::ErrorKind;

use super::mmlu::QuestionFault;
use super::open_ended::QuestionsError;
use crate::data::ChatTemplateError;
use crate::generation::GenerationError;
use crate::judge::JudgeError;
use crate::sandbox::SandboxError;

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
