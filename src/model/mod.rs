//! Frozen base models of the Llama form, loaded from Hugging Face folders, and the modules to which LoRA attaches.
//!
//! [`Folder`] checks the files of a model, [`Base`] loads them onto a device in a [`Precision`], [`hub`] downloads them
//! from the Hugging Face Hub, [`gguf`] makes a folder of a file of llama.cpp, and [`LoraSpec`] selects the modules to adapt. This module deals with files, shapes and
//! types only; see [`crate::training`] for how a model is computed and trained.

mod base;
mod config;
mod error;
mod folder;
pub mod gguf;
pub mod hub;
mod lora;
mod merge;
mod precision;
pub mod quantized;
pub mod random;
mod rope;
mod tensors;
mod weight;
mod weight_files;

pub use base::{Base, Block, Device, HeadNorms};
pub use config::{
    Activation, Architecture, Config, DecoderVariant, NormPlacement, QueryKeyNorm, RopeScaling, RotaryTable,
};
pub(crate) use error::memory_in;
pub use error::{ConfigError, ModelError};
pub use folder::{Folder, content_hash};
pub use lora::{LoraSpec, RANK_MAX, misfit};
pub use merge::{Merge, merge};
pub use precision::{Arithmetic, ErrorSum, Precision, RelativeError};
pub use rope::{Rope, RotaryTables};
pub(crate) use tensors::sites;
pub use tensors::{TensorSpec, tensor_specs};
pub use weight::{Held, Weight};
