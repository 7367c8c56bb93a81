//! The hub's listing of the files of a repository at one commit.

use serde::Deserialize;

use super::content_hash::is_hash;
use super::source::is_commit;
use crate::store::parse_json;

/// The files of a repository at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub commit: String,
    files: Vec<Sibling>,
}

/// A file of the repository, as the cache will store it.
#[derive(Debug)]
pub(super) struct RemoteFile {
    pub name: String,
    /// Hash of the content, which is its name in the cache: SHA-256 for a large file, git's hash for a small one.
    pub id: String,
    /// [byte] -- Length of the content.
    pub bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Reply {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Debug, Deserialize)]
struct LargeFile {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Parses the hub's JSON.
    ///
    /// # Errors
    /// A description of the problem.
    pub fn parse(json: &str) -> Result<Self, String> {
        let Reply { sha, siblings } = parse_json(json.as_bytes()).map_err(|error| error.to_string())?;
        if !is_commit(&sha) {
            return Err(format!("its sha {sha:?} is no commit"));
        }
        Ok(Self { commit: sha, files: siblings })
    }

    /// Returns whether the repository has a file with this name.
    pub fn holds(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.rfilename == name)
    }

    /// Returns whether the repository has a file whose name has one of these endings.
    pub fn holds_ending(&self, endings: &[&str]) -> bool {
        self.files.iter().any(|file| endings.iter().any(|ending| file.rfilename.ends_with(ending)))
    }

    /// Returns the file with this name, if there is one.
    ///
    /// # Errors
    /// If its length or hash is missing or malformed, since the download could not be checked.
    pub fn file(&self, name: &str) -> Result<Option<RemoteFile>, String> {
        let Some(Sibling { rfilename, size, blob_id, lfs }) = self.files.iter().find(|file| file.rfilename == name)
        else {
            return Ok(None);
        };
        // Large files (LFS) carry their own hash and size; `blobId` is then the hash of a pointer file.
        let described = match lfs {
            Some(LargeFile { sha256, size }) => Some((sha256, *size)),
            None => blob_id.as_ref().zip(*size),
        };
        match described {
            Some((id, bytes)) if is_hash(id) && lfs.is_some() == (id.len() == 64) => {
                Ok(Some(RemoteFile { name: rfilename.clone(), id: id.clone(), bytes }))
            }
            _ => Err(format!("it gives no length and hash of {name}")),
        }
    }
}
