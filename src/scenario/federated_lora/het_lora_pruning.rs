//! HetLoRA with its pruning of ranks: Cho et al., "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models", EMNLP 2024,
//! arXiv 2401.06432, section 3. The server's rule is that of HetLoRA; a client shrinks its last components, and gives them up where
//! they have become smaller.

use super::{Averages, Clash, LoraMethod, het_lora};
use crate::adapter::Factors;
use crate::scenario::schema::{OptimizerState, ScenarioSpec};

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "HetLoRA with pruning",
    source: "arXiv 2401.06432",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::Both,
    receives: |_, _, _| Factors::Both,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::FactorsByNorm,
    takes_mixed_ranks: true,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    if scenario.training.optimizer_state == OptimizerState::Kept {
        return Some(("training.optimizer_state", "moments of components that a client has given up would move them again"));
    }
    if scenario.server.uplink_codec.is_some() {
        return Some(("server.uplink_codec", "a codec encodes changes, and what a client has given up has none"));
    }
    if scenario.attackers.is_some() {
        return Some(("attackers", "what they send is a multiple of a change, and what a client has given up has none"));
    }
    (het_lora::METHOD.clash)(scenario)
}
