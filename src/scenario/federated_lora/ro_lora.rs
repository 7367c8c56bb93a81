//! RoLoRA: Chen et al., "Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA", NeurIPS 2025, arXiv 2502.01755,
//! algorithm 1. It begins with B: while B is zero, the gradient of A is zero, too.

use super::{Averages, Clash, LoraMethod, apart, asynchronous};
use crate::adapter::Factors;
use crate::scenario::schema::{AggregationSpec, Algorithm, OptimizerState, ScenarioSpec};

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "RoLoRA",
    source: "arXiv 2502.01755",
    trains: |_, round| trained(round),
    sends: |_, round| trained(round),
    receives: |_, round, nobody_misses| received(round, nobody_misses),
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::Factors,
    takes_mixed_ranks: false,
    clash,
};

fn trained(round: u32) -> Factors {
    if round % 2 == 1 { Factors::B } else { Factors::A }
}

/// A client that got a model in all rounds before lacks only what the last of them changed. Before the first round, that is A.
fn received(round: u32, nobody_misses: bool) -> Factors {
    if nobody_misses { trained(round).others() } else { Factors::Both }
}

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    if !matches!(scenario.algorithm, Algorithm::FedAvg { .. } | Algorithm::FedProx { .. }) {
        return Some(("algorithm", "a server's moments and SCAFFOLD's variates would move the frozen factor"));
    }
    if scenario.training.optimizer_state == OptimizerState::Kept {
        return Some(("training.optimizer_state", "each factor rests in every second round"));
    }
    if matches!(scenario.server.aggregation, AggregationSpec::CenteredClipping { .. }) {
        return Some(("server.aggregation", "its center is an update of the round before, which was one of the other factor"));
    }
    apart(scenario).or_else(|| asynchronous(scenario, "updates of both factors would meet; use Synchronous"))
}
