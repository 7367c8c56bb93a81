//! Errors in a model that is read from outside.

use std::path::{Path, PathBuf};

/// The reason why a base model, or LoRA on it, cannot be used. All of these are found before training starts.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("failed to access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// config.json is malformed or asks for something that is not supported.
    #[error("failed to read {path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The field, the value found and the values allowed.
        reason: String,
    },
    /// A weight file is not a complete safetensors file.
    #[error("failed to read {path}: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A tensor does not match config.json.
    #[error("failed to load {path}: tensor {tensor}: {reason}")]
    Tensor {
        /// The file that holds the tensor, or the folder if it is missing.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Description of what was expected and what was found.
        reason: String,
    },
    /// LoRA does not fit the model.
    #[error("failed to place LoRA on the model: {0}")]
    Lora(String),
    /// The device does not exist.
    #[error("failed to use device {device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// The devices that exist.
        reason: String,
    },
    /// The device ran out of memory.
    #[error("failed to load the model: out of memory: {0}")]
    OutOfMemory(String),
    /// LibTorch refused an operation during loading.
    #[error("failed to load the model: LibTorch: {0}")]
    Torch(tch::TchError),
}

impl From<tch::TchError> for ModelError {
    fn from(error: tch::TchError) -> Self {
        match memory_in(&error) {
            Some(needed) => Self::OutOfMemory(needed),
            None => Self::Torch(error),
        }
    }
}

/// Returns what LibTorch says of the memory that it did not get; `None` if the error is another one.
pub(crate) fn memory_in(error: &tch::TchError) -> Option<String> {
    let text = error.to_string();
    // LibTorch reports all failures as text; these are the messages of its allocators on CUDA and on the CPU.
    let line = text.lines().find(|line| line.contains("out of memory") || line.contains("can't allocate memory"))?;
    Some(line.trim().trim_start_matches("Internal torch error: ").into())
}

impl ModelError {
    /// Returns a function that wraps an error of the operating system about `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Wraps the description of a problem with the weight file `path`.
    pub(super) fn weights(path: &Path, reason: String) -> Self {
        Self::Weights { path: path.to_owned(), reason }
    }
}

/// Error in the text of a config.json: the field, the value found and the values allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);
