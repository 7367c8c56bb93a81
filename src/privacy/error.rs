//! Error of a scenario's privacy.

/// Reason why a scenario's privacy cannot be provided, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PrivacyError(pub String);
