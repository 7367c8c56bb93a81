//! A tokenised row.

use serde::{Deserialize, Serialize};

/// A tokenised row: ids and the positions whose tokens are learnt (position p is predicted from p-1; p >= 1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Token ids, in order.
    pub ids: Vec<u32>,
    /// Ranges of positions whose tokens are learnt, ascending and disjoint.
    pub targets: Vec<std::ops::Range<u32>>,
}
