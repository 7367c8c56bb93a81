//! FLoRIST: Ramesh and Dass, "FLoRIST: Singular Value Thresholding for Efficient and Accurate Federated Fine-Tuning of Large Language
//! Models", MLSys 2026, arXiv 2506.09199, section 3 and algorithm 1.

use super::{Averages, Clash, LoraMethod, apart, merging, renewing};
use crate::adapter::Factors;
use crate::scenario::schema::ScenarioSpec;

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FLoRIST",
    source: "arXiv 2506.09199",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::Both,
    // The new A is drawn from the seed, and B is zero.
    receives: |_, _, _| Factors::None,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::MergedTruncatedProducts,
    takes_mixed_ranks: true,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    renewing(scenario).or_else(|| merging(scenario)).or_else(|| apart(scenario))
}

/// Returns the greatest number of singular values that a sum of products can keep, of at most `rank`: ceiling(threshold rank). The
/// first p of R descending values have at least p/R of the energy, so that no more are needed.
///
/// # Examples
///
/// ```
/// use fedreplay::scenario::truncated_rank_max;
///
/// assert_eq!(truncated_rank_max(0.9, 64), 58);
/// assert_eq!(truncated_rank_max(1.0, 64), 64);
/// ```
pub fn truncated_rank_max(threshold: f64, rank: u64) -> u64 {
    // Rounding cannot lead beyond the rank.
    ((threshold * rank as f64).ceil() as u64).min(rank)
}
