//! Differential privacy of whole clients: clipping, noise, and accountants.
//!
//! What a run promises, to whom and under which assumptions stands in `docs/privacy.md`. No torch, no files.

pub mod accountant;
mod clipping;
mod noise;
mod release;

pub use clipping::{Adaptive, Clipping};
pub use noise::{DEVIATION_MAX, NoiseSource, Secret, SecretMark};
pub use release::{Part, Placement, Released, Rule, discrete_deviation, levels};
