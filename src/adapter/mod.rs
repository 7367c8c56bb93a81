//! LoRA adapters outside of training: plain f32 values with a layout, their wire formats and PEFT's files.
//!
//! This module does not depend on LibTorch: federated methods, privacy mechanisms and the store work on these values
//! alone.

mod error;
mod factors;
mod layout;
pub mod peft;
mod values;
mod wire;

pub use error::AdapterError;
pub use factors::Factors;
pub use layout::{Layout, Module};
pub use values::Adapter;
pub use wire::{WireFormat, decode, encode, wire_bytes, wire_bytes_of};
