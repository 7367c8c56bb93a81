//! Analyses of how the clients of a dataset differ, after FedLLM-Bench's paper (section 6.3 of its description), as
//! tables and pictures: quantities, languages, lengths, openings of instructions, preferences, quality, and embeddings.
//!
//! Everything is computed in the order of the file and from seeded random streams, so the same data, model and
//! embeddings give the same bytes. Nothing is trained or simulated.

mod distance;
mod embedding;
mod endpoint;
mod openings;
mod openings_picture;
mod pictures;
mod profile;
mod quality;
mod tables;

pub use distance::{Geometry, geometry};
pub use embedding::{Embedder, client_embeddings};
pub use endpoint::Endpoint;
pub use openings::{Opening, openings};
pub use pictures::{Findings, draw};
pub use profile::{Profile, profiles};
pub use quality::{Quality, QualityJudge};
pub use tables::{ClientDiversityRow, DistanceRow, LanguageRow, OpeningRow, QualityRow};

use std::fmt::Display;

use fedreplay_sim::Seed;
use plotters::prelude::*;

use crate::data::{ClientData, Row, round_rows};

/// An error that ends an analysis.
#[derive(Debug, thiserror::Error)]
pub enum DiversityError {
    /// The tokenizer refused a text.
    #[error("failed to tokenize client {client:?}, row {row}: {message}")]
    Text { client: String, row: usize, message: String },
    /// The model could not score or embed.
    #[error(transparent)]
    Model(#[from] crate::training::Error),
    /// The embeddings endpoint was not reached, or sent no usable response.
    #[error("failed to get embeddings from {url}: {message}")]
    Endpoint { url: String, message: String },
    /// A picture could not be drawn.
    #[error("failed to draw {picture}: {message}")]
    Picture { picture: String, message: String },
}

/// Draws at most `count` rows of a client without replacement. Returns them with their indices.
pub(crate) fn drawn(seed: Seed, client: usize, data: &ClientData, count: usize) -> Vec<(usize, &Row)> {
    let rows = round_rows(seed, client as u64, 0, data.rows.len(), count.min(data.rows.len()));
    rows.into_iter().map(|row| (row, &data.rows[row])).collect()
}

/// [pixel] -- Width and height of every picture.
pub(super) const SIZE: (u32, u32) = (900, 540);

pub(super) type Drawn<T = ()> = Result<T, String>;

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Color of everything without its own.
pub(super) const REST: RGBColor = RGBColor(160, 160, 160);

/// Returns the message of an error of the drawing library.
pub(super) fn said(error: impl Display) -> String {
    error.to_string()
}
