//! HumanEval: functions of Python that a model completes, executed and counted.
//!
//! Generated code is run by [`crate::sandbox::Sandbox`] alone, which shows before it runs anything that it confines what it runs, and
//! refuses where it does not. Nothing here runs code that nobody allowed to run: the caller asks for
//! `--allow-code-execution` before it opens a sandbox.

mod benchmark;
mod pass_at_k;
mod problems;
mod program;
#[cfg(test)]
mod tests;

pub use benchmark::HumanEval;
pub use pass_at_k::pass_at_k;
pub use problems::{CodePrompts, HumanEvalScores, Problems};
pub use program::{Problem, program};
