//! Keys: BLAKE3 over a canonical encoding of everything that a result depends on.

use serde::{Deserialize, Serialize};

use super::Digest;

/// The name of a result: equal keys, equal bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub Digest);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The key of a value under a name that says what kind of thing it is and which version of its code made it.
///
/// The encoding is postcard's: fields in declaration order, lengths before contents, floats by their bits. Types that are
/// encoded must hold no hash maps, whose order is not theirs to choose.
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
