//! HumanEval: Python functions completed by a model, executed and scored by pass@k (Chen et al. 2021).
//!
//! Only [`Sandbox`] runs generated code. Before it runs any, it checks that it confines programs, and refuses to run
//! them if it does not. Running generated code is opt-in: the caller requires `--allow-code-execution` before it opens
//! a sandbox.

mod error;
mod human_eval;
mod interpreter;
mod outcome;
mod paper;
mod pass_at_k;
mod probe;
mod program;
mod sandbox;
#[cfg(test)]
mod tests;

pub use error::SandboxError;
pub use human_eval::{CodePrompts, HumanEvalScores, Problem, Problems};
pub use outcome::Outcome;
pub use paper::HumanEval;
pub use pass_at_k::pass_at_k;
pub use program::program;
pub use sandbox::{Limits, Sandbox};
