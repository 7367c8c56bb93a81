//! What a repository holds at one commit, as the hub lists it.

use serde::Deserialize;

use super::source::{is_commit, is_plain};

/// A repository's files at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub commit: String,
    files: Vec<Sibling>,
}

/// A file as it will lie in the cache.
#[derive(Debug)]
pub(super) struct RemoteFile {
    pub name: String,
    /// Hash of its content, by which the cache names it: SHA-256 of a large file, git's own of a small one.
    pub id: String,
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
    /// Reads the hub's JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let Reply { sha, siblings } = serde_json::from_str(json).map_err(|error| error.to_string())?;
        match is_commit(&sha) {
            true => Ok(Self { commit: sha, files: siblings }),
            false => Err(format!("its sha {sha:?} is no commit")),
        }
    }

    /// Whether a file of this name is there.
    pub fn holds(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.rfilename == name)
    }

    /// Whether a file with one of these endings is there.
    pub fn holds_ending(&self, endings: &[&str]) -> bool {
        self.files.iter().any(|file| endings.iter().any(|ending| file.rfilename.ends_with(ending)))
    }

    /// The file of this name, or `None`.
    ///
    /// # Errors
    /// If its length or hash is absent or of another form, since neither could be checked then.
    pub fn file(&self, name: &str) -> Result<Option<RemoteFile>, String> {
        let Some(Sibling { rfilename, size, blob_id, lfs }) = self.files.iter().find(|file| file.rfilename == name)
        else {
            return Ok(None);
        };
        let described = match lfs {
            Some(LargeFile { sha256, size }) => Some((sha256, *size)),
            None => blob_id.as_ref().zip(*size),
        };
        match described {
            Some((id, bytes)) if is_plain(id) => {
                Ok(Some(RemoteFile { name: rfilename.clone(), id: id.clone(), bytes }))
            }
            _ => Err(format!("it gives no length and hash of {name}")),
        }
    }
}
