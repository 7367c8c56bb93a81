//! LoRA adapters outside of training: plain f32 values with a layout, their wire formats and PEFT's files.
//!
//! This module does not depend on LibTorch: federated methods, privacy mechanisms and the store work on these values
//! alone.

mod base_change;
mod components;
mod core_matrix;
mod error;
mod factors;
mod layout;
pub mod peft;
mod saved;
mod values;
mod wire;

pub use base_change::{BaseChange, ModuleChange};
pub use components::pruned_rank;
pub use error::AdapterError;
pub use factors::Factors;
pub use layout::{Layout, Module};
pub use saved::{is_saved, read_saved, save, saved_files};
pub use values::Adapter;
pub use wire::{WireFormat, decode, encode, wire_bytes, wire_bytes_of};
