//! Content-addressed store of results on disk.
//!
//! A result is a sequence of bytes, whose meaning the store does not know, under the [`Key`] of everything that it was
//! computed from. On disk a store is a folder:
//!
//! - `results/KK/KEY` contains the hash of the result's content;
//! - `contents/HH/HASH` contains the bytes;
//! - `runs/` lists the runs that use the store;
//! - `sessions/` and `gate` coordinate processes that use it at the same time.

pub mod atomic;
mod content;
mod key;
mod registry;
mod session;
mod upkeep;

pub use content::{Store, StoreError};
pub use key::{Digest, binary_hash};
pub use key::{Key, Recipe, key_of};
pub use registry::RegisteredRun;
pub use upkeep::{StoredResult, Trim, Trimmed};
