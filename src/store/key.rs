//! Keys of results: BLAKE3 hashes over a canonical encoding of everything that a result depends on.

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
