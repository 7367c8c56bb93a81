//! Tokenized rows with their hashes, as clients train on them and models are evaluated on them.

use std::sync::Arc;

use super::Sample;
use crate::store::Digest;

/// Tokenised rows with their hashes. A row is one sample, or under preference data the two of a pair.
#[derive(Debug)]
pub struct Rows {
    pub samples: Vec<Arc<Sample>>,
    pub(crate) hashes: Vec<Digest>,
    /// [samples] Samples a row.
    width: usize,
}

impl Rows {
    /// Hashes each row once.
    pub fn new(samples: Vec<Sample>) -> Self {
        let hashes = samples.iter().map(|sample| Digest(*sample.hash().as_bytes())).collect();
        Self { samples: samples.into_iter().map(Arc::new).collect(), hashes, width: 1 }
    }

    /// The same of pairs: chosen answer, then the rejected one.
    pub fn of_pairs(pairs: Vec<[Sample; 2]>) -> Self {
        Self { width: 2, ..Self::new(pairs.into_iter().flatten().collect()) }
    }

    /// Number of rows: of samples, or of pairs.
    pub fn count(&self) -> usize {
        self.samples.len() / self.width
    }

    /// The samples of a row.
    pub fn row(&self, place: usize) -> &[Arc<Sample>] {
        &self.samples[place * self.width..(place + 1) * self.width]
    }

    /// [tokens] The longest row.
    pub fn longest(&self) -> u64 {
        let tokens = |row: &[Arc<Sample>]| row.iter().map(|sample| sample.ids.len() as u64).sum();
        self.samples.chunks(self.width).map(tokens).max().unwrap_or(0)
    }

    /// The hashes of a row's samples.
    pub(crate) fn row_hashes(&self, place: usize) -> &[Digest] {
        &self.hashes[place * self.width..(place + 1) * self.width]
    }

    /// The rows of all, in order.
    pub fn pooled(parts: &[Arc<Rows>]) -> Self {
        let samples = parts.iter().flat_map(|rows| rows.samples.iter().cloned()).collect();
        let hashes = parts.iter().flat_map(|rows| rows.hashes.iter().copied()).collect();
        Self { samples, hashes, width: parts.first().map_or(1, |rows| rows.width) }
    }

    /// Tokens that a loss is taken on.
    pub fn target_tokens(&self) -> u64 {
        self.samples.iter().map(|sample| sample.target_tokens()).sum()
    }

    /// All tokens, prompts included.
    pub fn tokens(&self) -> u64 {
        self.samples.iter().map(|sample| sample.ids.len() as u64).sum()
    }
}

/// One client's rows, as tokens.
#[derive(Debug)]
pub struct ClientRows {
    pub id: String,
    pub train: Arc<Rows>,
    pub held_out: Arc<Rows>,
}
