//! FedSA-LoRA: Guo et al., "Selective Aggregation for Low-Rank Adaptation in Federated Learning", ICLR 2025, arXiv 2410.01463,
//! section 4. There is no model of the server: what is evaluated is A of the server with B of each client, and B is zero at a client
//! that has not trained yet.

use super::{Averages, Clash, LoraMethod, apart, asynchronous};
use crate::adapter::Factors;
use crate::scenario::schema::{Algorithm, ScenarioSpec};

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FedSA-LoRA",
    source: "arXiv 2410.01463",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::A,
    receives: |_, _, _| Factors::A,
    keeps: |_| Factors::B,
    trains_own_adapter: false,
    averages: Averages::Factors,
    takes_mixed_ranks: false,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    if !matches!(scenario.algorithm, Algorithm::FedAvg { .. }) {
        return Some(("algorithm", "its rule for A is a mean, and no other is published for models whose B differ; use FedAvg"));
    }
    if scenario.privacy.is_some() {
        return Some(("privacy", "each client's own B is evaluated, which no noise protects"));
    }
    if scenario.model.lora.initial.is_some() {
        return Some(("model.lora.initial", "B of a client that has not trained is zero"));
    }
    apart(scenario).or_else(|| {
        asynchronous(scenario, "a client continues from its own B, and only synchronous rounds count one task of a client at a time")
    })
}
