//! HetLoRA: Cho et al., "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models", EMNLP 2024, arXiv 2401.06432,
//! section 3, without the pruning of ranks. A client's matrices are the first rows of the server's A and the first columns of its B;
//! at the server they are filled up with zeros.

use super::{Averages, Clash, LoraMethod, apart, asynchronous};
use crate::adapter::Factors;
use crate::scenario::schema::{Algorithm, ScenarioSpec, WeightsSpec};

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "HetLoRA",
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
    if !matches!(scenario.algorithm, Algorithm::FedAvg { .. } | Algorithm::FedProx { .. }) {
        return Some(("algorithm", "its weights are those of a mean, which is the server's step; use FedAvg or FedProx"));
    }
    if scenario.algorithm.weights() != WeightsSpec::Samples {
        return Some(("algorithm.weights", "the weight of a client is the norm of its products B A"));
    }
    if scenario.privacy.is_some() {
        return Some(("privacy", "the weight of a client is the norm of its update, which no noise protects"));
    }
    if !scenario.server.aggregation.is_mean() {
        return Some(("server.aggregation", "its rule is a mean with weights of its own"));
    }
    apart(scenario).or_else(|| asynchronous(scenario, "its mean is that of clients which begin with one model"))
}
