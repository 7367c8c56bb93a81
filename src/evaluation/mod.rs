//! Benchmarks of a trained model: what is asked, what is answered, what an answer is worth.
//!
//! Generation is the one part that knows LibTorch; benchmarks and judges see a [`Model`] that continues texts.

pub mod benchmark;
pub mod judge;
mod request;

pub use request::{Answer, Ended, Model, Request, Sampling};
