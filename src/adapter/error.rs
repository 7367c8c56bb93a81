//! What can be wrong with an adapter that comes from outside.

use std::path::PathBuf;

/// Why an adapter could not be read or written. None of these ends a run that does not need that adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A file could not be read or written.
    #[error("failed to access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The bytes are not a complete safetensors file.
    #[error("failed to read {what}: not a complete safetensors file ({reason})")]
    Safetensors {
        /// The file, or what the bytes stand for.
        what: String,
        /// What the parser said.
        reason: String,
    },
    /// A file is well-formed but says something that cannot be used.
    #[error("failed to read {what}: {reason}")]
    Content {
        /// The file, or what the bytes stand for.
        what: String,
        /// What is wrong, with the value found and those allowed.
        reason: String,
    },
}

impl AdapterError {
    pub(super) fn content(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Content { what: what.into(), reason: reason.into() }
    }
}
