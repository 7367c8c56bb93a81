//! LoRA-FAIR: Bian et al., "LoRA-FAIR: Federated LoRA Fine-Tuning with Aggregation and Initialization Refinement", ICCV 2025, arXiv
//! 2411.14961, section 4, with the Frobenius norm as the distance.

use super::{Averages, Clash, LoraMethod, apart, asynchronous};
use crate::adapter::Factors;
use crate::scenario::schema::{Algorithm, ScenarioSpec};

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "LoRA-FAIR",
    source: "arXiv 2411.14961",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::Both,
    receives: |_, _, _| Factors::Both,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::CorrectedFactors,
    takes_mixed_ranks: false,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    if !matches!(scenario.algorithm, Algorithm::FedAvg { .. } | Algorithm::FedProx { .. }) {
        return Some(("algorithm", "the correction is of a mean of factors, which is the server's step; use FedAvg or FedProx"));
    }
    if scenario.privacy.is_some() {
        return Some(("privacy", "the correction is made from the products of single clients, which no noise protects"));
    }
    if !scenario.server.aggregation.is_mean() {
        return Some(("server.aggregation", "what it comes near to is a mean"));
    }
    apart(scenario)
        .or_else(|| asynchronous(scenario, "a mean of products is that of clients which begin with one model"))
}
