//! Keys of results: BLAKE3 hashes over a canonical encoding of everything that a result depends on, its recipe.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// BLAKE3 hash, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Computes the hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// Returns the BLAKE3 hash of a file, which is read piece by piece.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.finalize().into())
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self::from)
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not 64 hexadecimal digits")))
    }
}

/// Returns the hash of this program, computed once per process.
pub fn binary_hash() -> Digest {
    static HASH: OnceLock<Digest> = OnceLock::new();
    *HASH.get_or_init(|| {
        // A program that cannot read its own file still runs; its hash is then that of no bytes.
        let read = std::env::current_exe().and_then(|path| Digest::of_file(&path));
        read.unwrap_or_else(|_| Digest::of(b""))
    })
}

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
