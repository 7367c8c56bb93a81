//! What a result is made from. Its key is the hash of this, so whoever has the recipe can compute the key again.

use serde::Serialize;

use super::{Digest, Key, key_of};

/// Everything that can change a result's bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recipe {
    /// Kind of the result and version of the code that computes it: a change of its bits raises it.
    pub code: String,
    /// Base model and numerics, where the result depends on them.
    pub engine: Option<Digest>,
    /// Everything else but the inputs, as compact JSON with contents in place of what they are hashes of.
    pub parameters: String,
    /// Results that it is computed from, in the order of their use.
    pub inputs: Vec<Key>,
}

impl Recipe {
    /// The key of the result.
    pub fn key(&self) -> Key {
        key_of("fedreplay recipe v1", self)
    }
}
