//! Base models of the Llama family from Hugging Face folders, frozen on a device, and where LoRA attaches to them.
//!
//! What lives here knows files, shapes and types. How a model is trained is in `training`.

mod base;
mod config;
mod error;
mod folder;
pub mod hub;
mod identity;
mod lora;
mod merge;
mod precision;
mod precision_error;
pub mod quantised;
pub mod random;
mod rope;
mod tensors;
mod weight;

pub use base::{Base, Block, Device};
pub use config::{Architecture, Config, RopeScaling};
pub use error::ModelError;
pub use folder::Folder;
pub use identity::content_hash;
pub use lora::LoraSpec;
pub use merge::{Merge, merge};
pub use precision::{Arithmetic, Precision};
pub use precision_error::{ErrorSum, RelativeError};
pub use rope::Rope;
pub use tensors::{TensorSpec, tensor_specs};
pub use weight::{Held, Weight};
