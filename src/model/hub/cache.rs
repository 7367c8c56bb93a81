//! The cache on disk: the commit of each revision, the files that exist, and the paths for new ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use super::content_hash::{Notes, is_hash};
use super::error::HubError;
use super::listing::RemoteFile;
use super::settings::Hub;
use super::source::Source;
use crate::model::weight_files::{INDEX_FILE, SINGLE_FILE, shard_names};
use crate::store::read_text_limited;

/// The file that every model needs, in addition to its weights.
const CONFIG_FILE: &str = "config.json";

/// The cache of one repository.
pub(super) struct CachedRepository {
    repository: hf_hub::CacheRepo,
    folder: PathBuf,
    source: Source,
    notes: Notes,
}

impl CachedRepository {
    /// Creates the cache of `source` in that of `hub`, without reading or creating files.
    pub fn new(hub: &Hub, source: &Source) -> Self {
        let repo = Repo::with_revision(source.repository.clone(), RepoType::Model, source.revision.clone());
        let folder = hub.cache.join(repo.folder_name());
        let notes = Notes::new(&folder, hub.notes.as_deref());
        Self { repository: Cache::new(hub.cache.clone()).repo(repo), folder, source: source.clone(), notes }
    }

    /// Returns the folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.repository.pointer_path(commit)
    }

    /// Returns the folder of the revision, if config.json, the weights and the files `also` exist.
    ///
    /// # Errors
    /// The path of the first file or folder that is missing.
    pub fn usable(&self, also: &[&str]) -> Result<PathBuf, PathBuf> {
        // A commit names its folder; a branch or tag is looked up in `refs` first.
        let folder = if self.source.is_commit() {
            self.snapshot(&self.source.revision)
        } else {
            match self.repository.get(CONFIG_FILE) {
                Some(config) => config.parent().expect("a file stands in a folder").to_owned(),
                None => return Err(self.folder.clone()),
            }
        };
        let mut wanted = vec![CONFIG_FILE.to_owned()];
        wanted.extend(also.iter().map(|&name| name.to_owned()));
        wanted.extend(weights(&folder));
        for name in wanted {
            let path = folder.join(name);
            if !path.exists() {
                return Err(path);
            }
        }
        Ok(folder)
    }

    /// Returns the first of the files `names` and of the weights in a commit's folder whose content is not what its name in `blobs` says. Files
    /// that are no links to such a content are not checked.
    pub fn damaged(&self, folder: &Path, names: &[&str]) -> Option<PathBuf> {
        let mut paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        paths.extend(weights(folder).into_iter().map(|name| folder.join(name)));
        paths.into_iter().find(|path| self.is_damaged(path))
    }

    fn is_damaged(&self, path: &Path) -> bool {
        let Ok(content) = fs::canonicalize(path) else { return false };
        let id = content.file_name().unwrap_or_default().to_string_lossy();
        is_hash(&id) && !self.notes.is_whole(&content, &id)
    }

    /// Returns whether a file of a commit exists with its content.
    pub fn holds(&self, commit: &str, file: &RemoteFile) -> bool {
        let path = self.snapshot(commit).join(&file.name);
        has_length(&path, file.bytes) && self.notes.is_whole(&path, &file.id)
    }

    /// Returns the notes on contents that were found whole.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Returns the path of a file's content, which is named by its hash.
    pub fn blob(&self, file: &RemoteFile) -> PathBuf {
        self.folder.join("blobs").join(&file.id)
    }

    /// Links the file's name in the commit's folder to its content.
    pub fn link(&self, commit: &str, file: &RemoteFile) -> Result<(), HubError> {
        let snapshot = self.snapshot(commit);
        fs::create_dir_all(&snapshot).map_err(HubError::io(&snapshot))?;
        let name = snapshot.join(&file.name);
        // The link is made under another name and renamed: a link cannot be overwritten, and removing the old one first
        // would break a reader of the same folder.
        let process = std::process::id();
        let thread = std::thread::current().id();
        let temporary = snapshot.join(format!(".{}.{process}.{thread:?}", file.name));
        let _ = fs::remove_file(&temporary);
        symlink(Path::new("../../blobs").join(&file.id), &temporary).map_err(HubError::io(&temporary))?;
        fs::rename(&temporary, &name).map_err(HubError::io(&name))
    }

    /// Records the commit of the revision. This must be the last step, so that a recorded revision has all its files.
    pub fn record(&self, commit: &str) -> Result<(), HubError> {
        // A cache that has it already may be read-only.
        let recorded = read_text_limited(&self.folder.join("refs").join(&self.source.revision));
        if self.source.is_commit() || recorded.is_ok_and(|recorded| recorded == commit) {
            return Ok(());
        }
        self.repository.create_ref(commit).map_err(HubError::io(&self.folder))
    }
}

/// Returns whether the file exists and has a length of `bytes`.
pub(super) fn has_length(path: &Path, bytes: u64) -> bool {
    path.metadata().is_ok_and(|found| found.len() == bytes)
}

/// Returns the names of the weight files. A malformed index yields none: the reader of the folder reports it better.
fn weights(folder: &Path) -> Vec<String> {
    let index = folder.join(INDEX_FILE);
    if index.exists() { shard_names(&index).unwrap_or_default() } else { vec![SINGLE_FILE.into()] }
}
