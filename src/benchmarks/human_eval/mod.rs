//! HumanEval: Python functions completed by a model, executed in [`crate::sandbox`] and scored by pass@k (Chen et al. 2021).

mod benchmark;
mod problems;
mod program;
#[cfg(test)]
mod tests;

pub use benchmark::HumanEval;
pub use problems::pass_at_k;
pub use problems::{CodePrompts, HumanEvalScores, Problems};
pub use program::{AnswerForm, Problem, program};
