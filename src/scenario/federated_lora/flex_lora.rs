//! FlexLoRA: Bai et al., "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources", NeurIPS
//! 2024, arXiv 2402.11505, section 3.

use super::{Averages, Clash, LoraMethod, apart};
use crate::adapter::Factors;
use crate::scenario::schema::{Algorithm, ScenarioSpec};

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FlexLoRA",
    source: "arXiv 2402.11505",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::Both,
    receives: |_, _, _| Factors::Both,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::Products,
    takes_mixed_ranks: true,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    if !matches!(scenario.algorithm, Algorithm::FedAvg { .. } | Algorithm::FedProx { .. }) {
        return Some(("algorithm", "the decomposition takes the place of the server's step"));
    }
    if scenario.privacy.is_some() {
        return Some(("privacy", "what is clipped and noised are factors; a mean of products is neither"));
    }
    if !scenario.server.aggregation.is_mean() {
        return Some(("server.aggregation", "robust rules combine factors, and not their products"));
    }
    apart(scenario)
}
