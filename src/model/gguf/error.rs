//! Errors in a GGUF file.

use std::io;
use std::path::{Path, PathBuf};

/// The reason why a GGUF file could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// A file or folder could not be read or written.
    #[error("failed to access {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The target exists and is not an empty folder.
    #[error("failed to write {0}: it exists; name a new folder, or remove it first")]
    TargetExists(PathBuf),
    /// The file is damaged, or asks for something that is not supported.
    #[error("failed to import {path}: {fault}")]
    File {
        /// The GGUF file.
        path: PathBuf,
        /// The place and the reason.
        fault: GgufFault,
    },
}

/// The place in a GGUF file that cannot be used, and the reason.
#[derive(Debug, thiserror::Error)]
pub enum GgufFault {
    /// The file breaks the format.
    #[error("at byte {at}: {reason}")]
    Malformed {
        /// [byte] -- Offset in the file.
        at: u64,
        /// The value found and the values allowed.
        reason: String,
    },
    /// A value of the metadata.
    #[error("{key} {reason}")]
    Key {
        /// The key.
        key: String,
        /// The value and what is allowed, as the end of a sentence that begins with the key.
        reason: String,
    },
    /// The file does not say how a text is split before it is tokenized.
    #[error("{key} is missing, so the way to split a text is not known")]
    NoPreTokenizer {
        /// The key.
        key: &'static str,
    },
    /// The way to split a text has an unknown name, in the file or in [`super::ImportOptions`].
    #[error("{key} is {name:?}, known are {}", known.join(", "))]
    UnknownPreTokenizer {
        /// The key.
        key: &'static str,
        /// The name.
        name: String,
        /// The names that are known.
        known: Vec<&'static str>,
    },
    /// A tensor.
    #[error("tensor {name} {reason}")]
    Tensor {
        /// The tensor's name in the GGUF file.
        name: String,
        /// The value found and those allowed, as the end of a sentence that begins with the tensor.
        reason: String,
    },
    /// The operating system failed to read the file.
    #[error("{0}")]
    Read(#[from] io::Error),
}

impl GgufError {
    /// Returns a function that wraps an error of the operating system about `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl GgufFault {
    /// Describes a problem with the value of a metadata key.
    pub(super) fn key(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Key { key: key.into(), reason: reason.into() }
    }

    /// Describes a problem with a tensor.
    pub(super) fn tensor(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Tensor { name: name.into(), reason: reason.into() }
    }
}
