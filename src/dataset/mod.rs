//! Rows as they are trained on.

mod sample;

pub use sample::Sample;
