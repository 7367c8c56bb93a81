//! Why an evaluation did not end well.

use super::generation::GenerationError;
use super::mmlu::QuestionFault;

/// Errors of benchmarks. A prompt that does not fit, or an answer that nobody can judge, is none: it is in the tables.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// A file of questions cannot be used.
    #[error(transparent)]
    Mmlu(#[from] QuestionFault),
    #[error(transparent)]
    Generation(#[from] GenerationError),
}

impl EvaluationError {
    /// 1 failed; 2 bad usage or data; 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Mmlu(_)
            | Self::Generation(GenerationError::Configuration { .. } | GenerationError::Letter { .. }) => 2,
            Self::Generation(GenerationError::Interrupted) => 130,
            Self::Generation(_) => 1,
        }
    }
}
