//! Errors of downloads from the hub.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::ModelError;

/// The reason why a repository could not be resolved to a folder. Data that was downloaded before the error is kept and
/// not downloaded again.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// An environment variable has an invalid value.
    #[error("failed to read the environment: {variable} is {value:?} and must be {allowed}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// The values that are allowed.
        allowed: &'static str,
    },
    /// The name of a repository or revision is invalid.
    #[error("failed to name a model of the hub: the {part} is {value:?} and must be {allowed}")]
    Name {
        /// `repository` or `revision`.
        part: &'static str,
        /// The name.
        value: String,
        /// The names that are allowed.
        allowed: &'static str,
    },
    /// The program is offline, and the cache lacks a file.
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
    /// The hub has no such repository, or does not show it.
    #[error(
        "failed to find {model} at {endpoint}: there is no such repository, or it is private and HF_TOKEN gives no \
         access to it"
    )]
    NoRepository {
        /// Repository and revision.
        model: String,
        /// URL of the hub.
        endpoint: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("failed to find {model} at {endpoint}: the repository is there, its revision is not")]
    NoRevision {
        /// Repository and revision.
        model: String,
        /// URL of the hub.
        endpoint: String,
    },
    /// The repository lacks a file.
    #[error("failed to find {file} in {model}{hint}")]
    NoFile {
        /// The file.
        file: String,
        /// Repository and revision.
        model: String,
        /// An explanation, as a clause; may be empty.
        hint: &'static str,
    },
    /// The repository exists, but the token gives no access to it.
    #[error(
        "failed to read {model} from {endpoint}: access is restricted; accept its terms on its page there, and set \
         HF_TOKEN to a token of that account"
    )]
    Denied {
        /// Repository and revision.
        model: String,
        /// URL of the hub.
        endpoint: String,
    },
    /// The hub did not answer.
    #[error("failed to reach {url}: {reason}{}", if *is_cached { "; a copy is in the cache, HF_HUB_OFFLINE=1 uses it" } else { "" })]
    Unreachable {
        /// The URL of the request.
        url: String,
        /// The error of the connection.
        reason: String,
        /// Whether the cache holds an earlier state of this revision.
        is_cached: bool,
    },
    /// The hub answered with an error status.
    #[error(
        "failed to read {url}: the server answered with status {status}{}",
        wait.map_or(String::new(), |wait| format!(" and asks to wait for {} s", wait.as_secs()))
    )]
    Refused {
        /// The URL of the request.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Time to the next request that the server asks for.
        wait: Option<Duration>,
    },
    /// The answer is malformed or inconsistent.
    #[error("failed to understand the answer of {url}: {reason}")]
    Answer {
        /// The URL of the request.
        url: String,
        /// The problem.
        reason: String,
    },
    /// The content that arrived is another than the hub lists.
    #[error(
        "failed to download {url}: its content has the hash {found}, and the hub lists {expected}; nothing of it is kept"
    )]
    WrongContent {
        /// The file.
        url: String,
        /// Hash by the listing.
        expected: String,
        /// Hash of what arrived.
        found: String,
    },
    /// A content in the cache is damaged, and the program is offline.
    #[error(
        "failed to use {path}: its content is not what its name in the cache says; without HF_HUB_OFFLINE it is \
         fetched again", path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The connection ended too early several times.
    #[error(
        "failed to download {url}: the connection ended after {received_bytes} of {expected_bytes} bytes ({reason}); \
         the next try goes on from there"
    )]
    Truncated {
        /// The file.
        url: String,
        /// [byte] -- Length of the file.
        expected_bytes: u64,
        /// [byte] -- Length of the part that was received.
        received_bytes: u64,
        /// The last error of the connection.
        reason: String,
    },
    /// The cache could not be read or written.
    #[error("failed to access {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The index of the weight files is malformed.
    #[error(transparent)]
    Index(#[from] ModelError),
}

impl HubError {
    /// Returns whether the request or the environment is at fault, rather than the connection or the machine.
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
            | Self::WrongContent { .. }
            | Self::Damaged { .. }
            | Self::Truncated { .. }
            | Self::Io { .. } => false,
        }
    }

    /// Returns a function that wraps an error of the operating system about `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
