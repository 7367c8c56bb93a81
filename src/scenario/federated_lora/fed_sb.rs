//! Fed-SB: Singhal et al., "Fed-SB: A Silver Bullet for Extreme Communication Efficiency and Performance in (Private) Federated LoRA
//! Fine-Tuning", arXiv 2502.15436, section 4, with the initialization of LoRA-SB (Ponkshe et al., arXiv 2411.19557, section 3). The
//! initial B and A come from data, so that a client receives them once.

use super::{Averages, Clash, LoraMethod, apart};
use crate::adapter::Factors;
use crate::scenario::schema::{ObjectiveSpec, Protocol, ScenarioSpec};

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "Fed-SB",
    source: "arXiv 2502.15436",
    trains: |_, _| Factors::Core,
    sends: |_, _| Factors::Core,
    receives: |_, _, _| Factors::Core,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::Factors,
    takes_mixed_ranks: false,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    if scenario.algorithm.is_own_rule() {
        return Some(("algorithm", "rules of one's own are given A and B, and here R is averaged between them"));
    }
    if scenario.privacy.is_some() {
        return Some(("privacy", "its first step reads rows of clients, and no noise is added to it"));
    }
    if scenario.model.lora.initial.is_some() {
        return Some(("model.lora.initial", "it begins with an adapter of its own, from gradients of the base"));
    }
    if matches!(scenario.training.objective, ObjectiveSpec::Dpo { .. }) {
        return Some(("training.objective", "its first step is published for supervised fine-tuning"));
    }
    if matches!(scenario.server.protocol, Protocol::Hierarchical { .. }) {
        return Some(("server.protocol", "an edge would receive B and A once, and its transfers are alike in all rounds"));
    }
    apart(scenario)
}
