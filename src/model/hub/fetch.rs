//! Resolution of a model's name to a folder: which files are downloaded, in which order, and when the hub is not
//! contacted.

use std::path::{Path, PathBuf};

use super::cache::CachedRepository;
use super::error::HubError;
use super::listing::{Listing, RemoteFile};
use super::settings::Hub;
use super::source::{Source, is_plain};
use super::transfer::Transfer;
use crate::model::ModelError;
use crate::model::weight_files::{INDEX_FILE, SINGLE_FILE, shard_names};

/// The files that are downloaded in addition to the weights. Only the first is required.
const SMALL_FILES: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    INDEX_FILE,
];

/// Endings of weight files that may run code when they are loaded.
const PICKLES: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];

/// Resolves `org/name` at a revision (default `main`) to a local folder, with the hub configured by the environment.
///
/// # Errors
/// Those of [`Hub::from_environment`] and [`Hub::fetch`].
pub fn fetch(repository: &str, revision: Option<&str>) -> Result<PathBuf, HubError> {
    Hub::from_environment()?.fetch(repository, revision)
}

impl Hub {
    /// Resolves `org/name` at a branch, tag or commit (default `main`) to the folder `snapshots/<commit>` of the
    /// cache, and downloads the files that are missing.
    ///
    /// These are config.json, the files of the tokenizer and the chat template, and the safetensors files that the
    /// index names, or else `model.safetensors`. Nothing else is downloaded, in particular no pickle. The last
    /// component of the returned path is the commit.
    ///
    /// # Errors
    /// [`HubError`], which names the model, file or URL, and never the token. A failed download can be repeated and resumes where it ended.
    pub fn fetch(&self, repository: &str, revision: Option<&str>) -> Result<PathBuf, HubError> {
        let source = Source::new(repository, revision)?;
        let cache = CachedRepository::new(self, &source);
        if self.is_offline {
            let folder = cache.usable(&[]);
            let folder = folder.map_err(|missing| HubError::NotCached { model: source.to_string(), missing })?;
            return match cache.damaged(&folder, &SMALL_FILES) {
                Some(path) => Err(HubError::Damaged { path }),
                None => Ok(folder),
            };
        }
        // A commit never changes, so a complete folder needs no request. A branch may have moved.
        if source.is_commit()
            && let Ok(folder) = cache.usable(&["tokenizer.json"])
            && cache.damaged(&folder, &SMALL_FILES).is_none()
        {
            return Ok(folder);
        }
        let transfer = Transfer::new(self, &source);
        let listing = transfer.listing().map_err(|error| mention_cache(error, &cache))?;
        Fetch { source: &source, cache: &cache, transfer: &transfer, listing: &listing }.run()
    }
}

/// Adds to the error of an unreachable hub whether the cache could be used without it.
fn mention_cache(error: HubError, cache: &CachedRepository) -> HubError {
    match error {
        HubError::Unreachable { url, reason, .. } => {
            HubError::Unreachable { url, reason, is_cached: cache.usable(&[]).is_ok() }
        }
        other => other,
    }
}

/// Returns the weight files that an index names. The index comes from outside, so other files are refused.
fn safetensors_only(index: &Path) -> Result<Vec<String>, HubError> {
    let names = shard_names(index)?;
    for name in &names {
        if !is_plain(name) || !name.ends_with(".safetensors") {
            let reason = format!("it names {name:?} as a weight file, and only safetensors files are read");
            return Err(ModelError::weights(index, reason).into());
        }
    }
    Ok(names)
}

/// The download of one commit into the cache.
struct Fetch<'a> {
    source: &'a Source,
    cache: &'a CachedRepository,
    transfer: &'a Transfer<'a>,
    listing: &'a Listing,
}

impl Fetch<'_> {
    /// Downloads the missing files. Weights come last, so that a folder with its weights has all other files too.
    fn run(&self) -> Result<PathBuf, HubError> {
        self.require(SMALL_FILES[0])?;
        for name in SMALL_FILES {
            if self.listing.holds(name) {
                self.bring(name)?;
            }
        }
        let folder = self.cache.snapshot(&self.listing.commit);
        let weights = if self.listing.holds(INDEX_FILE) {
            safetensors_only(&folder.join(INDEX_FILE))?
        } else {
            vec![SINGLE_FILE.to_owned()]
        };
        // All files are checked before the first large one is downloaded.
        for name in &weights {
            self.require(name)?;
        }
        for name in &weights {
            self.bring(name)?;
        }
        self.cache.record(&self.listing.commit)?;
        Ok(folder)
    }

    /// Returns the description of a file, or an error if the repository does not list it.
    fn require(&self, name: &str) -> Result<RemoteFile, HubError> {
        let listed = self.listing.file(name);
        let listed = listed.map_err(|reason| HubError::Answer { url: self.transfer.listing_url(), reason })?;
        if let Some(file) = listed {
            return Ok(file);
        }
        let hint = if name == SINGLE_FILE && self.listing.holds_ending(&PICKLES) {
            "; its weights are pickles, which can run code and are never read"
        } else {
            ""
        };
        Err(HubError::NoFile { file: name.into(), model: self.source.to_string(), hint })
    }

    /// Downloads a file, unless it is in the cache, and links it into the commit's folder.
    fn bring(&self, name: &str) -> Result<(), HubError> {
        let file = self.require(name)?;
        let commit = &self.listing.commit;
        if self.cache.holds(commit, &file) {
            return Ok(());
        }
        self.transfer.download(commit, &file, self.cache)?;
        self.cache.link(commit, &file)
    }
}
