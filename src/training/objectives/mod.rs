//! Objectives of training: the cross-entropy of supervised fine-tuning, and direct preference optimization.

pub mod cross_entropy;
pub mod preference;
