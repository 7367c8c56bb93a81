//! Differential privacy of whole clients: clipping, noise, and accountants.
//!
//! What a run promises, to whom and under which assumptions stands in `docs/privacy.md`. No torch, no files.

pub mod accountant;
