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
mod file_name;
mod foreign;
mod key;
mod limited;
mod registry;
mod secret;
mod session;
mod upkeep;

pub use claim::{Claim, Claiming, Elsewhere};
pub use content::{Store, StoreError};
pub use file_name::next_to;
pub use foreign::{ForeignReader, parse_json, without_panic};
pub use key::{Digest, Key, Recipe, binary_hash, key_of};
pub use limited::{read_limited, read_text_limited, read_up_to};
pub use registry::RegisteredRun;
pub use secret::SecretText;
pub use upkeep::{StoredResult, Trim, Trimmed};
