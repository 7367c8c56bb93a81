//! Errors in reading and writing adapters.

use std::path::PathBuf;

/// Error in reading or writing an adapter. It ends a run only if the run needs that adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A file could not be read or written.
    #[error("failed to access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The bytes are not a complete safetensors file.
    #[error("failed to read {what}: not a complete safetensors file ({reason})")]
    Safetensors {
        /// The file, or a description of the bytes.
        what: String,
        /// The message of the parser.
        reason: String,
    },
    /// There is no folder, which a name on the Hugging Face Hub looks like.
    #[error(
        "failed to read {}: there is no folder {}; an adapter of the hub is not fetched", file.display(), folder.display()
    )]
    NoFolder {
        /// The file that was to be read.
        file: PathBuf,
        /// The folder that is missing.
        folder: PathBuf,
    },
    /// The tensors are there as a pickle only, which can run code.
    #[error("failed to read {}: there is only {pickle}, a pickle, which can run code and is not read", file.display())]
    Pickle {
        /// The file that was to be read.
        file: PathBuf,
        /// Name of the pickle.
        pickle: &'static str,
    },
    /// A file is well-formed, but its content cannot be used.
    #[error("failed to read {what}: {reason}")]
    Content {
        /// The file, or a description of the bytes.
        what: String,
        /// The fault, with the value found and those allowed.
        reason: String,
    },
}

impl AdapterError {
    pub(super) fn content(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Content { what: what.into(), reason: reason.into() }
    }

    pub(super) fn safetensors(what: &str, reason: impl Into<String>) -> Self {
        Self::Safetensors { what: what.into(), reason: reason.into() }
    }
}
