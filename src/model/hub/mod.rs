//! Models of the Hugging Face Hub: downloads `org/name` at a revision to a local folder that [`Folder`] can open.
//!
//! [`Hub`] holds the addresses of the hub and the cache, which come from HF_ENDPOINT, HF_HOME, HF_HUB_CACHE,
//! HF_HUB_OFFLINE and HF_TOKEN. [`Hub::fetch`] downloads missing files. The cache has the layout of `hf-hub` and of
//! Python's huggingface_hub, so all three share one copy of a model: `blobs` holds file contents named by their hash,
//! `snapshots/<commit>` holds links to them under their file names, and `refs` holds the commit of each branch.
//!
//! Downloads are implemented here, over `ureq`. `hf-hub` 0.5 fails where a mirror or the hub's content network does not
//! answer with a range, and never checks a length; version 1.0 restarts a broken download from the first byte.
//!
//! Contents are hashed before they get their names, and when they are found in the cache. One that is damaged is downloaded
//! again.
//!
//! A downloaded folder never changes, but a branch moves: a reproducible run should name a commit. If the cache holds
//! the complete folder of a commit, the hub is not contacted.
//!
//! [`Folder`]: super::Folder

mod cache;
mod content_hash;
mod error;
mod fetch;
mod listing;
mod part;
mod redirect;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod transfer;

pub use error::HubError;
pub use fetch::fetch;
pub use settings::Hub;
