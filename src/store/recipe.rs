//! Recipes of results. The key of a result is the hash of its recipe, from which it can be computed again.

use serde::Serialize;

use super::{Digest, Key, key_of};

/// Everything that determines the bits of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recipe {
    /// Kind of the result and version of the code that computes it. The version is raised when results change bits.
    pub code: String,
    /// Hash of base model and numerics, if the result depends on them.
    pub engine: Option<Digest>,
    /// All other parameters as compact JSON, in which hashes replace large contents.
    pub parameters: String,
    /// Keys of the results that it is computed from, in the order of their use.
    pub inputs: Vec<Key>,
}

impl Recipe {
    /// Returns the key of the result.
    pub fn key(&self) -> Key {
        key_of("fedreplay recipe v1", self)
    }
}
