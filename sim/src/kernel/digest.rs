//! A digest that can be serialized and continued: BLAKE3, chained over blocks of rows.

use serde::{Deserialize, Serialize};

/// Number of rows per link of a chain.
pub const CHAIN_BLOCK_EVENTS: u32 = 1024;

/// A chained digest: `link[n+1] = BLAKE3(link[n] || rows of block n+1)`.
///
/// All links are stored, so that the first block in which two runs differ can be found by bisection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    head: [u8; 32],
    rows: Vec<u8>,
    rows_in_block: u32,
    total_rows: u64,
    links: Vec<[u8; 32]>,
}

impl Chain {
    /// Returns an empty chain. Chains with different contexts have different digests.
    pub fn new(context: &str) -> Self {
        let head = *blake3::hash(context.as_bytes()).as_bytes();
        Self { head, rows: Vec::new(), rows_in_block: 0, total_rows: 0, links: Vec::new() }
    }

    /// Appends one row.
    pub fn push(&mut self, row: &[u8]) {
        self.rows.extend_from_slice(row);
        self.rows_in_block += 1;
        self.total_rows += 1;
        if self.rows_in_block == CHAIN_BLOCK_EVENTS {
            self.head = self.value();
            self.links.push(self.head);
            self.rows.clear();
            self.rows_in_block = 0;
        }
    }

    /// Returns the digest of all rows so far.
    pub fn value(&self) -> [u8; 32] {
        if self.rows_in_block == 0 {
            return self.head;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.head);
        hasher.update(&self.rows);
        *hasher.finalize().as_bytes()
    }

    /// Returns the number of rows appended so far.
    pub fn len(&self) -> u64 {
        self.total_rows
    }

    /// Returns whether no rows were appended.
    pub fn is_empty(&self) -> bool {
        self.total_rows == 0
    }

    /// Returns the digest after each full block of [`CHAIN_BLOCK_EVENTS`] rows.
    pub fn links(&self) -> &[[u8; 32]] {
        &self.links
    }

    /// Returns the number of the first block in which `self` and `other` differ, or `None` if they are equal.
    pub fn first_difference(&self, other: &Chain) -> Option<usize> {
        let common = self.links.len().min(other.links.len());
        // A link depends on all rows before it, so links are equal up to the first difference and different from there
        // on.
        let first = self.links[..common].iter().zip(&other.links).collect::<Vec<_>>().partition_point(|(a, b)| a == b);
        (first < common || self.value() != other.value()).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(rows: impl Iterator<Item = u32>) -> Chain {
        let mut chain = Chain::new("test");
        rows.for_each(|row| chain.push(&row.to_le_bytes()));
        chain
    }

    #[test]
    fn a_divergence_is_found_in_its_block() {
        let (a, b) = (chain(0..5_000), chain((0..5_000).map(|i| if i == 3_000 { 0 } else { i })));
        assert_eq!(a.first_difference(&b), Some(2));
        assert_eq!(a.first_difference(&a), None);
        assert_eq!(a.links().len(), 4);
    }

    #[test]
    fn every_row_changes_the_value() {
        let mut values: Vec<[u8; 32]> = (0..3_000).map(|n| chain(0..n).value()).collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 3_000);
    }
}
