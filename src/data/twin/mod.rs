//! Synthetic twins of FedLLM-Bench's datasets: the same form, the same numbers of clients and samples, sizes and lengths
//! as published, and content of this project's own making.
//!
//! The real files must be downloaded by whoever wants them; a twin lets every scenario run without. What a twin does not
//! have is the text: results on one say nothing about results on the other.

mod catalog;
mod prose;
mod spread;
mod write;

pub use catalog::{Twin, TwinForm};
pub use write::{TwinManifest, TwinSettings, write_twin};

/// What the ids of a twin's clients begin with, before the twin's name.
const ID_PREFIX: &str = "twin-";

/// The name of the twin that a client of this id belongs to.
pub fn twin_of(client_id: &str) -> Option<&'static str> {
    let rest = client_id.strip_prefix(ID_PREFIX)?;
    let fits = |twin: &&Twin| rest.strip_prefix(twin.name).is_some_and(|number| number.starts_with('/'));
    Twin::all().iter().find(fits).map(|twin| twin.name)
}
