//! The cache on disk: which commit a revision was at, which files of it are there, and where new ones go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use super::error::HubError;
use super::listing::RemoteFile;
use super::source::Source;
use crate::model::folder::{INDEX_FILE, SINGLE_FILE, shard_names};

/// What a model cannot do without, beside its weights.
const CONFIG_FILE: &str = "config.json";

/// The cache of one repository.
pub(super) struct CachedRepository {
    repository: hf_hub::CacheRepo,
    folder: PathBuf,
    source: Source,
}

impl CachedRepository {
    /// The cache of `source` under `root`; nothing is read or made yet.
    pub fn new(root: &Path, source: &Source) -> Self {
        let repo = Repo::with_revision(source.repository.clone(), RepoType::Model, source.revision.clone());
        let folder = root.join(repo.folder_name());
        Self { repository: Cache::new(root.to_owned()).repo(repo), folder, source: source.clone() }
    }

    /// Where the files of a commit are.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.repository.pointer_path(commit)
    }

    /// The folder of the revision, if config.json, the weights and `also` are there.
    ///
    /// # Errors
    /// The path of the first file or folder that is missing.
    pub fn usable(&self, also: &[&str]) -> Result<PathBuf, PathBuf> {
        let folder = match self.source.is_commit() {
            true => self.snapshot(&self.source.revision),
            false => match self.repository.get(CONFIG_FILE) {
                Some(config) => config.parent().expect("a file stands in a folder").to_owned(),
                None => return Err(self.folder.clone()),
            },
        };
        let wanted = [CONFIG_FILE].into_iter().chain(also.iter().copied()).map(str::to_owned);
        let missing = wanted.chain(weights(&folder)).map(|name| folder.join(name)).find(|path| !path.exists());
        missing.map_or(Ok(folder), Err)
    }

    /// Whether a file of a commit is there in full.
    pub fn holds(&self, commit: &str, file: &RemoteFile) -> bool {
        has_length(&self.snapshot(commit).join(&file.name), file.bytes)
    }

    /// Where a content of this hash lies.
    pub fn blob(&self, file: &RemoteFile) -> PathBuf {
        self.folder.join("blobs").join(&file.id)
    }

    /// Lets the file's name in the commit's folder point to its content.
    pub fn link(&self, commit: &str, file: &RemoteFile) -> Result<(), HubError> {
        let snapshot = self.snapshot(commit);
        fs::create_dir_all(&snapshot).map_err(HubError::io(&snapshot))?;
        let name = snapshot.join(&file.name);
        // Renamed into place, since an old link cannot be overwritten and another fetch may be reading through it.
        let (process, thread) = (std::process::id(), std::thread::current().id());
        let temporary = snapshot.join(format!(".{}.{process}.{thread:?}", file.name));
        let _ = fs::remove_file(&temporary);
        symlink(Path::new("../../blobs").join(&file.id), &temporary).map_err(HubError::io(&temporary))?;
        fs::rename(&temporary, &name).map_err(HubError::io(&name))
    }

    /// Records that the revision is at `commit`. Comes last: a revision on record has all its files.
    pub fn record(&self, commit: &str) -> Result<(), HubError> {
        match self.source.is_commit() {
            true => Ok(()),
            false => self.repository.create_ref(commit).map_err(HubError::io(&self.folder)),
        }
    }
}

/// Whether the file is there and has this length [byte].
pub(super) fn has_length(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|found| found.len() == bytes)
}

/// The names of the weight files. An index that cannot be read is left for the reader of the folder to explain.
fn weights(folder: &Path) -> Vec<String> {
    let index = folder.join(INDEX_FILE);
    match index.exists() {
        true => shard_names(&index).unwrap_or_default(),
        false => vec![SINGLE_FILE.into()],
    }
}
