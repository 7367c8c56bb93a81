//! Benchmarks of a trained model: what is asked, what is answered, what an answer is worth.
//!
//! Generation is the one part that knows LibTorch; benchmarks and judges see a [`Model`] that continues texts.

mod request;

pub use request::{Answer, Ended, Model, Request, Sampling};
