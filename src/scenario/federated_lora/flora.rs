//! FLoRA: Wang et al., "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations", NeurIPS 2024,
//! arXiv 2409.05976, section 3.2. The stack of all clients' factors is the sum of their weighted products.

use super::{Averages, Clash, LoraMethod, apart, merging, renewing};
use crate::adapter::Factors;
use crate::scenario::schema::ScenarioSpec;

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FLoRA",
    source: "arXiv 2409.05976",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::Both,
    // The new A is drawn from the seed, and B is zero.
    receives: |_, _, _| Factors::None,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::MergedProducts,
    takes_mixed_ranks: true,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    renewing(scenario).or_else(|| merging(scenario)).or_else(|| apart(scenario))
}
