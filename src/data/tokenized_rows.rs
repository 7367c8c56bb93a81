//! Tokenized rows with their hashes, as clients train on them and models are evaluated on them.

use std::sync::Arc;

use super::Sample;
use crate::store::Digest;

/// Tokenized rows with their hashes. A row is one sample, or the two samples of a pair in preference data.
#[derive(Debug)]
pub struct Rows {
    pub samples: Vec<Arc<Sample>>,
    /// Hash of each sample.
    pub(crate) hashes: Vec<Digest>,
    /// [samples] -- Samples per row.
    width: usize,
}

impl Rows {
    /// Creates rows of one sample each, and hashes every sample once.
    pub fn new(samples: Vec<Sample>) -> Self {
        let hashes = samples.iter().map(|sample| Digest::from(sample.hash())).collect();
        Self { samples: samples.into_iter().map(Arc::new).collect(), hashes, width: 1 }
    }

    /// Creates rows of pairs: the chosen answer, then the rejected one.
    pub fn of_pairs(pairs: Vec<[Sample; 2]>) -> Self {
        Self { width: 2, ..Self::new(pairs.into_iter().flatten().collect()) }
    }

    /// Returns the number of rows: samples, or pairs.
    pub fn count(&self) -> usize {
        self.samples.len() / self.width
    }

    /// Returns the samples of a row.
    pub fn row(&self, place: usize) -> &[Arc<Sample>] {
        &self.samples[place * self.width..(place + 1) * self.width]
    }

    /// [token] -- Returns the length of the longest row.
    pub fn longest(&self) -> u64 {
        let mut longest = 0;
        for row in self.samples.chunks(self.width) {
            longest = longest.max(row.iter().map(|sample| sample.ids.len() as u64).sum());
        }
        longest
    }

    /// Returns the hashes of a row's samples.
    pub(crate) fn row_hashes(&self, place: usize) -> &[Digest] {
        &self.hashes[place * self.width..(place + 1) * self.width]
    }

    /// Concatenates rows, in order.
    pub fn pooled(parts: &[Arc<Rows>]) -> Self {
        let samples = parts.iter().flat_map(|rows| rows.samples.iter().cloned()).collect();
        let hashes = parts.iter().flat_map(|rows| rows.hashes.iter().copied()).collect();
        Self { samples, hashes, width: parts.first().map_or(1, |rows| rows.width) }
    }

    /// [token] -- Returns the number of tokens that a loss is taken on.
    pub fn target_tokens(&self) -> u64 {
        self.samples.iter().map(|sample| sample.target_tokens()).sum()
    }

    /// [token] -- Returns the number of tokens, prompts included.
    pub fn tokens(&self) -> u64 {
        self.samples.iter().map(|sample| sample.ids.len() as u64).sum()
    }
}

/// Tokenized rows of one client.
#[derive(Debug)]
pub struct ClientRows {
    pub id: String,
    pub train: Arc<Rows>,
    pub held_out: Arc<Rows>,
}
