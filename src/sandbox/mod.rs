//! Isolated execution of generated code.
//!
//! Only [`Sandbox`] runs generated code. Before it runs any, it checks that it confines programs, and refuses to run them if it
//! does not. Running generated code is opt-in: the caller requires `--allow-code-execution` before it opens a sandbox.

mod error;
mod interpreter;
mod isolation;
mod outcome;
mod probe;
#[cfg(test)]
pub(crate) mod tests;

pub use error::SandboxError;
pub use isolation::{Limits, Sandbox};
pub use outcome::ProgramOutcome;
