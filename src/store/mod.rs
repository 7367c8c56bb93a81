//! Results under their keys, on disk. What a result means is not known here: it is bytes.

pub mod atomic;
mod content;
mod digest;
mod key;
mod recipe;
mod registry;
mod session;
mod upkeep;

pub use content::{Store, StoreError};
pub use digest::{Digest, binary_hash};
pub use key::{Key, key_of};
pub use recipe::Recipe;
pub use registry::RegisteredRun;
pub use upkeep::{StoredResult, Trim, Trimmed};
