//! HumanEval: functions of Python that a model completes, executed and counted.
//!
//! Generated code is run by [`Sandbox`] alone, which shows before it runs anything that it confines what it runs, and
//! refuses where it does not. Nothing here runs code that nobody allowed to run: the caller asks for
//! `--allow-code-execution` before it opens a sandbox.

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
