//! Isolated execution of generated code: a program runs in a sandbox that has just been shown to hold, or not at all.

mod error;
mod interpreter;
mod isolation;
mod outcome;
mod probe;
#[cfg(test)]
pub(crate) mod tests;

pub use error::SandboxError;
pub use isolation::{Limits, Sandbox};
pub use outcome::Outcome;
