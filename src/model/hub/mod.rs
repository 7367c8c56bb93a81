//! Models of the Hugging Face Hub by name: `org/name` at a revision becomes a local folder that [`Folder`] opens.
//!
//! [`Hub`] says where the hub and the cache are, as HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_TOKEN
//! do; [`Hub::fetch`] brings what is missing. The cache is laid out as `hf-hub` and Python's huggingface_hub lay it
//! out, so all three share one copy of a model: `blobs` holds contents under their hash, `snapshots/<commit>` names
//! them, `refs` says which commit a branch was at.
//!
//! The transfer is our own, over `ureq`. That of `hf-hub` 0.5 fails where a mirror or the hub's content network does
//! not answer with a range, and never checks a length; that of 1.0 starts a broken download from its first byte.
//!
//! A fetched folder never changes, but a branch moves: a run that must be repeatable names a commit. A folder of a
//! commit that is complete in the cache is used without asking the hub.
//!
//! [`Folder`]: super::Folder

mod cache;
mod error;
mod fetch;
mod listing;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod transfer;

pub use error::HubError;
pub use fetch::fetch;
pub use settings::Hub;
