//! FLoRA: Wang et al., "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations", NeurIPS 2024,
//! arXiv 2409.05976, section 3.2. The stack of all clients' factors is the sum of their weighted products.

use super::{Averages, Clash, LoraMethod, apart, merging};
use crate::adapter::Factors;
use crate::scenario::schema::{OptimizerState, ScenarioSpec};

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
    if scenario.training.optimizer_state == OptimizerState::Kept {
        return Some(("training.optimizer_state", "each round trains a new adapter, of which no optimizer has moments"));
    }
    if scenario.server.uplink_codec.is_some_and(|codec| codec.has_error_feedback()) {
        return Some((
            "server.uplink_codec",
            "what error feedback remembers is of an adapter that the next round does not train; turn it off",
        ));
    }
    merging(scenario).or_else(|| apart(scenario))
}
