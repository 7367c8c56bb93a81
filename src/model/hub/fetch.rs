//! From a name to a folder: what is fetched, in which order, and when the hub is not asked at all.

use std::path::{Path, PathBuf};

use super::cache::CachedRepository;
use super::error::HubError;
use super::listing::{Listing, RemoteFile};
use super::settings::Hub;
use super::source::{Source, is_plain};
use super::transfer::Transfer;
use crate::model::ModelError;
use crate::model::folder::{INDEX_FILE, SINGLE_FILE, shard_names};

/// The files that are fetched beside the weights, where they are there; the first must be.
const SMALL_FILES: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    INDEX_FILE,
];

/// Endings of weight files that run code when they are read.
const PICKLES: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];

/// Resolves `org/name` at a revision (default `main`) to a local folder, by the hub that the environment describes.
///
/// # Errors
/// Those of [`Hub::from_environment`] and [`Hub::fetch`].
pub fn fetch(repository: &str, revision: Option<&str>) -> Result<PathBuf, HubError> {
    Hub::from_environment()?.fetch(repository, revision)
}

impl Hub {
    /// Resolves `org/name` at a branch, tag or commit (default `main`) to the folder `snapshots/<commit>` of the
    /// cache, and fetches what is missing there.
    ///
    /// Fetched are config.json, the tokenizer's and the chat template's files, and the safetensors files that the
    /// index names, else `model.safetensors`. Nothing else is, so never a pickle. The last step of the path is the
    /// commit.
    ///
    /// # Errors
    /// [`HubError`]; each names the model, file or URL. A failed fetch can be repeated and goes on where it ended.
    pub fn fetch(&self, repository: &str, revision: Option<&str>) -> Result<PathBuf, HubError> {
        let source = Source::new(repository, revision)?;
        let cache = CachedRepository::new(&self.cache, &source);
        if self.is_offline {
            let missing = |missing| HubError::NotCached { model: source.to_string(), missing };
            return cache.usable(&[]).map_err(missing);
        }
        if source.is_commit()
            && let Ok(folder) = cache.usable(&["tokenizer.json"])
        {
            return Ok(folder);
        }
        let transfer = Transfer::new(self, &source);
        let listing = transfer.listing().map_err(|error| mention_cache(error, &cache))?;
        Fetch { source: &source, cache: &cache, transfer: &transfer, listing: &listing }.run()
    }
}

/// Says of an unreachable hub whether the cache could do without it.
fn mention_cache(error: HubError, cache: &CachedRepository) -> HubError {
    match error {
        HubError::Unreachable { url, reason, .. } => {
            HubError::Unreachable { url, reason, is_cached: cache.usable(&[]).is_ok() }
        }
        other => other,
    }
}

/// The weight files of an index, which comes from outside and may name anything.
fn safetensors_only(index: &Path) -> Result<Vec<String>, HubError> {
    let names = shard_names(index)?;
    match names.iter().find(|name| !is_plain(name) || !name.ends_with(".safetensors")) {
        None => Ok(names),
        Some(name) => {
            let reason = format!("it names {name:?} as a weight file, and only safetensors files are read");
            Err(ModelError::Weights { path: index.into(), reason }.into())
        }
    }
}

/// One commit on its way into the cache.
struct Fetch<'a> {
    source: &'a Source,
    cache: &'a CachedRepository,
    transfer: &'a Transfer<'a>,
    listing: &'a Listing,
}

impl Fetch<'_> {
    /// Weights come last: a folder with its weights has all that was listed.
    fn run(&self) -> Result<PathBuf, HubError> {
        self.require(SMALL_FILES[0])?;
        for name in SMALL_FILES {
            if self.listing.holds(name) {
                self.bring(name)?;
            }
        }
        let folder = self.cache.snapshot(&self.listing.commit);
        let weights = match self.listing.holds(INDEX_FILE) {
            true => safetensors_only(&folder.join(INDEX_FILE))?,
            false => vec![SINGLE_FILE.to_owned()],
        };
        weights.iter().try_for_each(|name| self.require(name).map(drop))?;
        weights.iter().try_for_each(|name| self.bring(name))?;
        self.cache.record(&self.listing.commit)?;
        Ok(folder)
    }

    /// Checks that a file is listed, before anything large is fetched.
    fn require(&self, name: &str) -> Result<RemoteFile, HubError> {
        let file = self.listing.file(name);
        let file = file.map_err(|reason| HubError::Answer { url: self.transfer.listing_url(), reason })?;
        file.ok_or_else(|| HubError::NoFile {
            file: name.into(),
            model: self.source.to_string(),
            hint: match self.listing.holds_ending(&PICKLES) {
                true if name == SINGLE_FILE => "; its weights are pickles, which can run code and are never read",
                _ => "",
            },
        })
    }

    fn bring(&self, name: &str) -> Result<(), HubError> {
        let file = self.require(name)?;
        let commit = &self.listing.commit;
        if self.cache.holds(commit, &file) {
            return Ok(());
        }
        self.transfer.download(commit, &file, &self.cache.blob(&file))?;
        self.cache.link(commit, &file)
    }
}
