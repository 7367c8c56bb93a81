//! A tokenized row, as training and evaluation read it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A tokenized row: token ids, and the positions whose tokens are trained on. The token at position p is predicted from
/// the tokens before it, so p >= 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Token ids, first to last.
    pub ids: Vec<u32>,
    /// Target positions in `ids`: ascending, non-overlapping, non-empty ranges that do not contain position 0.
    pub targets: Vec<Range<u32>>,
}

impl Sample {
    /// Returns BLAKE3 of ids and targets, each preceded by its length, so that no two samples share an encoding.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay tokenised sample v1");
        hasher.update(&(self.ids.len() as u64).to_le_bytes());
        for id in &self.ids {
            hasher.update(&id.to_le_bytes());
        }
        hasher.update(&(self.targets.len() as u64).to_le_bytes());
        for range in &self.targets {
            hasher.update(&range.start.to_le_bytes());
            hasher.update(&range.end.to_le_bytes());
        }
        hasher.finalize()
    }

    /// Returns the number of tokens that are trained on.
    pub fn target_tokens(&self) -> u64 {
        self.targets.iter().map(|range| u64::from(range.end - range.start)).sum()
    }

    /// Returns the first `max_tokens` tokens with their targets, or `None` if no target is left.
    pub fn truncated(mut self, max_tokens: usize) -> Option<Self> {
        self.ids.truncate(max_tokens);
        let end = self.ids.len() as u32;
        self.targets.retain_mut(|range| {
            range.end = range.end.min(end);
            range.start < range.end
        });
        if self.targets.is_empty() { None } else { Some(self) }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        Sample { ids: vec![1, 5, 6, 7, 2], targets: vec![2..3, 4..5] }
    }

    #[test]
    fn the_hash_sees_each_part() {
        let hash = sample().hash();
        assert_eq!(hash, sample().hash());
        assert_ne!(hash, Sample { ids: vec![1, 5, 6, 8, 2], ..sample() }.hash());
        assert_ne!(hash, Sample { targets: vec![2..4, 4..5], ..sample() }.hash());
        let shorter = Sample { ids: vec![1], targets: vec![] };
        let longer = Sample { ids: vec![1, 0], targets: vec![] };
        assert_ne!(shorter.hash(), longer.hash());
    }

    #[test]
    fn truncation_cuts_targets_with_the_ids() {
        assert_eq!(sample().target_tokens(), 2);
        assert_eq!(sample().truncated(9), Some(sample()));
        assert_eq!(sample().truncated(4), Some(Sample { ids: vec![1, 5, 6, 7], targets: vec![2..3] }));
        assert_eq!(sample().truncated(2), None);
    }

    #[test]
    fn a_sample_survives_serialisation() {
        let text = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample());
    }
}
