//! FedRep: Collins et al., "Exploiting Shared Representations for Personalized Federated Learning", ICML 2021, arXiv 2102.07078,
//! algorithm 1. The paper's representation and heads are here the adapters of the first decoder layers and of the last ones.

use super::{Averages, Clash, LoraMethod, clash_of_split, kept_layers};
use crate::adapter::Factors;
use crate::scenario::schema::{OptimizerState, ScenarioSpec};

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FedRep",
    source: "arXiv 2102.07078",
    // After the first steps of a task, in which the others are trained.
    trains: |method, _| Factors::ButLastLayers(kept_layers(method)),
    sends: |method, _| Factors::ButLastLayers(kept_layers(method)),
    receives: |method, _, _| Factors::ButLastLayers(kept_layers(method)),
    keeps: |method| Factors::LastLayers(kept_layers(method)),
    trains_own_adapter: false,
    averages: Averages::Factors,
    takes_mixed_ranks: false,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    if scenario.training.optimizer_state == OptimizerState::Kept {
        return Some(("training.optimizer_state", "the optimizer begins anew where a task turns from one part to the other"));
    }
    if scenario.training.dynamic_steps.is_some() {
        return Some(("training.dynamic_steps", "a client's task could have no steps beyond those of its local layers"));
    }
    clash_of_split(scenario)
}
