//! Keys of results: BLAKE3 hashes over a canonical encoding of everything that a result depends on, its recipe.

use serde::{Deserialize, Serialize};

use super::Digest;

/// Key of a result. Results with equal keys have equal bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub Digest);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Computes the key of a value. `kind` names the kind of the result and the version of the code that computes it.
///
/// The encoding is postcard's: fields in the order of declaration, lengths before contents, floats as their bits.
/// Encoded types must not contain hash maps, since their order of iteration is arbitrary.
///
/// # Examples
///
/// ```
/// use fedreplay::store::key_of;
///
/// let key = key_of("sum v1", &(3, 4));
/// assert_eq!(key, key_of("sum v1", &(3, 4)));
/// assert_ne!(key, key_of("sum v1", &(4, 3)));
/// assert_ne!(key, key_of("sum v2", &(3, 4)));
/// assert_eq!(key.to_string().len(), 64);
/// ```
pub fn key_of(kind: &str, value: &impl Serialize) -> Key {
    let encoded = postcard::to_stdvec(value).expect("key material has a known length everywhere");
    Key(Digest(blake3::derive_key(kind, &encoded)))
}

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
