//! Content-addressed store of results on disk.
//!
//! A result is a sequence of bytes, whose meaning the store does not know, under the [`Key`] of everything that it was
//! computed from. On disk a store is a folder:
//!
//! - `results/KK/KEY` contains the hash of the result's content;
//! - `contents/HH/HASH` contains the bytes;
//! - `runs/` lists the runs that use the store;
//! - `partial/` contains files that are being written;
//! - `sessions/`, `claims/` and `gate` coordinate processes that use it at the same time.

pub mod atomic;
mod claim;
mod content;
mod foreign;
mod key;
mod registry;
mod secret;
mod session;
mod upkeep;

pub use claim::{Claim, Claiming, Elsewhere};
pub use content::{Store, StoreError};
pub use foreign::without_panic;
pub use key::{Digest, Key, Recipe, binary_hash, key_of};
pub use registry::RegisteredRun;
pub use secret::SecretText;
pub use upkeep::{StoredResult, Trim, Trimmed};

/// Serializes a path as text, in which what is no UTF-8 is replaced, since JSON has no other texts.
///
/// # Errors
/// Those of the serializer.
pub fn path_as_text<S: serde::Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
