//! Client-level differential privacy: clipping, noise and accountants.
//!
//! `docs/privacy.md` states the guarantee that a run gives, to whom, and under which assumptions. This module uses
//! neither LibTorch nor files.

pub mod accountant;
mod charging;
mod clipping;
mod noise;
mod private_step;
mod release;

pub use charging::PrivacyError;
pub use charging::Spent;
pub(crate) use charging::{PrivacyPlan, within_budget};
pub use clipping::{AdaptiveClipping, Clipping};
pub use noise::{DEVIATION_MAX, NoiseSource, NoiseStream, Secret, SecretMark};
pub(crate) use private_step::Material;
pub use private_step::{Release, Step};
pub use release::{Part, Placement, Released, Rule, discrete_deviation, levels};
