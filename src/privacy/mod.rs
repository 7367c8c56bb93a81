//! Client-level differential privacy: clipping, noise and accountants.
//!
//! `docs/privacy.md` states the guarantee that a run gives, to whom, and under which assumptions. This module uses
//! neither LibTorch nor files.

pub mod accountant;
mod clipping;
mod noise;
mod release;

pub use clipping::{Adaptive, Clipping};
pub use noise::{DEVIATION_MAX, NoiseSource, Secret, SecretMark};
pub use release::{Part, Placement, Released, Rule, discrete_deviation, levels};
