//! Results under their keys, on disk. What a result means is not known here: it is bytes.

pub mod atomic;
mod content;
mod digest;
mod key;

pub use content::{Store, StoreError};
pub use digest::Digest;
pub use key::{Key, key_of};
