//! A LoRA adapter outside of training: plain f32 values under a layout, its wire formats and PEFT's files.
//!
//! No LibTorch here: federated methods, privacy and the store work on these values alone.

mod error;
mod layout;
pub mod peft;
mod values;
mod wire;

pub use error::AdapterError;
pub use layout::{Layout, Module};
pub use values::Adapter;
pub use wire::{WireFormat, decode, encode, wire_bytes};
