//! Why a scenario's privacy cannot be had.

/// The reason, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PrivacyError(pub String);
