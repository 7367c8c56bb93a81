//! What can be wrong with a model that comes from outside.

use std::path::PathBuf;

/// Why a base model, or the LoRA asked for on it, cannot be used. All of these are found before training starts.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("failed to access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// config.json asks for what is not supported, or is malformed.
    #[error("failed to read {path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The field, the value found and those allowed.
        reason: String,
    },
    /// A weight file is not a complete safetensors file.
    #[error("failed to read {path}: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor does not fit config.json.
    #[error("failed to load {path}: tensor {tensor}: {reason}")]
    Tensor {
        /// The file that holds the tensor, or the folder where it is missing.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Expected and found.
        reason: String,
    },
    /// The LoRA asked for does not fit the model.
    #[error("failed to place LoRA on the model: {0}")]
    Lora(String),
    /// The device asked for is not there.
    #[error("failed to use device {device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// What is there instead.
        reason: String,
    },
    /// LibTorch refused an operation while loading.
    #[error("failed to load the model: LibTorch: {0}")]
    Torch(#[from] tch::TchError),
}
