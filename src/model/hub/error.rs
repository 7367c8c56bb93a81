//! Why a model of the hub cannot be had.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::ModelError;

/// Why a repository could not be resolved to a folder. What had been downloaded stays and is not downloaded again.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A variable of the environment holds what it must not.
    #[error("failed to read the environment: {variable} is {value:?} and must be {allowed}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// A repository or revision that the hub cannot have.
    #[error("failed to name a model of the hub: the {part} is {value:?} and must be {allowed}")]
    Name {
        /// `repository` or `revision`.
        part: &'static str,
        /// What was given.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The hub must not be asked, and the cache lacks a file.
    #[error(
        "failed to find {model} offline: HF_HUB_OFFLINE is set and {missing} is not there; fetch it once online, or \
         set HF_HOME to a cache that holds it", missing = missing.display()
    )]
    NotCached {
        /// Repository and revision.
        model: String,
        /// The file or folder that is missing.
        missing: PathBuf,
    },
    /// The hub has no such repository, or hides it.
    #[error(
        "failed to find {model} at {endpoint}: there is no such repository, or it is private and HF_TOKEN gives no \
         access to it"
    )]
    NoRepository {
        /// Repository and revision.
        model: String,
        /// The hub.
        endpoint: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("failed to find {model} at {endpoint}: the repository is there, its revision is not")]
    NoRevision {
        /// Repository and revision.
        model: String,
        /// The hub.
        endpoint: String,
    },
    /// The repository lacks a file.
    #[error("failed to find {file} in {model}{hint}")]
    NoFile {
        /// The file.
        file: String,
        /// Repository and revision.
        model: String,
        /// What is there instead, as a clause; may be empty.
        hint: &'static str,
    },
    /// The repository is there and the token does not open it.
    #[error(
        "failed to read {model} from {endpoint}: access is restricted; accept its terms on its page there, and set \
         HF_TOKEN to a token of that account"
    )]
    Denied {
        /// Repository and revision.
        model: String,
        /// The hub.
        endpoint: String,
    },
    /// No answer came.
    #[error("failed to reach {url}: {reason}{}", if *is_cached { "; a copy is in the cache, HF_HUB_OFFLINE=1 uses it" } else { "" })]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the connection said.
        reason: String,
        /// Whether the cache holds an earlier state of this revision.
        is_cached: bool,
    },
    /// An answer with a status that says no.
    #[error("failed to read {url}: the server answered with status {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that makes no sense.
    #[error("failed to understand the answer of {url}: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection ended too early, several times.
    #[error(
        "failed to download {url}: the connection ended after {received_bytes} of {expected_bytes} bytes ({reason}); \
         the next try goes on from there"
    )]
    Truncated {
        /// The file.
        url: String,
        /// Its length [byte].
        expected_bytes: u64,
        /// What is there of it [byte].
        received_bytes: u64,
        /// What the connection said last.
        reason: String,
    },
    /// The cache could not be read or written.
    #[error("failed to access {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The index of the weight files is malformed.
    #[error(transparent)]
    Index(#[from] ModelError),
}

impl HubError {
    /// Whether what was asked for, or the environment, is wrong, rather than the connection or the machine.
    pub fn is_of_the_asker(&self) -> bool {
        match self {
            Self::Setting { .. }
            | Self::Name { .. }
            | Self::NotCached { .. }
            | Self::NoRepository { .. }
            | Self::NoRevision { .. }
            | Self::NoFile { .. }
            | Self::Denied { .. }
            | Self::Index(_) => true,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::Truncated { .. }
            | Self::Io { .. } => false,
        }
    }

    /// Turns an error of the operating system about `path` into one of ours.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
