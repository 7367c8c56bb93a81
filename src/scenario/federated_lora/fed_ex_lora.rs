//! FedEx-LoRA: Singhal et al., "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Large Language Models", ACL
//! 2025, arXiv 2410.09432, section 3.

use super::{Averages, Clash, LoraMethod, apart, merging};
use crate::adapter::Factors;
use crate::scenario::schema::ScenarioSpec;

pub(super) const METHOD: LoraMethod = LoraMethod {
    name: "FedEx-LoRA",
    source: "arXiv 2410.09432",
    trains: |_, _| Factors::Both,
    sends: |_, _| Factors::Both,
    receives: |_, _, _| Factors::Both,
    keeps: |_| Factors::None,
    trains_own_adapter: false,
    averages: Averages::FactorsWithResidual,
    takes_mixed_ranks: false,
    clash,
};

fn clash(scenario: &ScenarioSpec) -> Option<Clash> {
    merging(scenario).or_else(|| apart(scenario))
}
