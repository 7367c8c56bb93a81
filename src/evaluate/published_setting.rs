//! Recognition of runs that repeat a setting of FedLLM-Bench's paper, so that they can be compared with published figures.

use crate::benchmarks::Setting;
use crate::inputs::Inputs;
use crate::model::Config;
use crate::scenario::{Algorithm, FederatedLora, Fidelity, ScenarioSpec};

/// Datasets with published figures: name, number of clients, and number of samples in the file.
const DATASETS: [(&str, usize, u64); 3] =
    [("Fed-Aya", 38, 25_513), ("Fed-ChatbotIT", 237, 6_166), ("Fed-WildChat", 100, 52_703)];

/// Returns the paper's setting that a run repeats: its data, its base model and one of its methods, under its code's rules.
///
/// Data and model are recognized by their sizes, as no hashes of them are published. A synthetic twin has the same sizes
/// and is recognized by its clients' names.
pub(super) fn setting(scenario: &ScenarioSpec, inputs: &Inputs) -> Option<Setting> {
    let is_twin = inputs.read.keys().any(|role| role.starts_with("synthetic_twin_of_"));
    let is_plain = scenario.privacy.is_none() && scenario.changes.is_empty() && !is_twin && is_published(scenario);
    if scenario.fidelity != Fidelity::FedLlmBench || !is_plain || !is_llama_2_7b(inputs.trainer().config()) {
        return None;
    }
    let rows = inputs.clients.iter().map(|client| (client.train.count() + client.held_out.count()) as u64).sum();
    Some(Setting { dataset: dataset(inputs.clients.len(), rows)?, method: method(&scenario.algorithm)? })
}

/// Whether updates are exchanged and averaged as in the paper, by clients that all are honest.
fn is_published(scenario: &ScenarioSpec) -> bool {
    let averages_factors = scenario.federated_lora == FederatedLora::FedIt && !scenario.averages_products();
    averages_factors && scenario.server.aggregation.is_mean() && scenario.attackers.is_none()
}

/// Returns the dataset with this number of clients and rows. Up to 5 % of the rows may be missing, as some prompts are too
/// long to be used.
fn dataset(clients: usize, rows: u64) -> Option<&'static str> {
    for (name, published_clients, samples) in DATASETS {
        if clients == published_clients && (samples - samples / 20..=samples).contains(&rows) {
            return Some(name);
        }
    }
    None
}

/// Returns the paper's name of a method that it has figures for. Its Local is a mean over clients that it does not name, so
/// no row is comparable to it.
fn method(algorithm: &Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::FedAvg { .. } => Some("FedAvg"),
        Algorithm::FedProx { .. } => Some("FedProx"),
        Algorithm::Scaffold { .. } => Some("SCAFFOLD"),
        _ => None,
    }
}

/// Returns whether the base has the shape of Llama-2-7B. Llama-7B differs from it by half the positions, Alpaca-7B by one
/// more token.
fn is_llama_2_7b(config: &Config) -> bool {
    shape(config) == shape(&Config::llama(32_000, 4096, 11_008, 32, 32)) && config.max_positions == 4096
}

/// Returns the sizes that identify a model.
fn shape(config: &Config) -> [usize; 6] {
    let Config { vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, .. } = *config;
    [vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{AggregationSpec, Mean, WeightsSpec};

    #[test]
    fn a_dataset_is_known_by_its_clients_and_rows() {
        assert_eq!(dataset(38, 25_513), Some("Fed-Aya"));
        assert_eq!(dataset(38, 25_001), Some("Fed-Aya"), "some prompts are too long");
        assert_eq!(dataset(38, 20_000), None, "a part of it");
        assert_eq!(dataset(37, 25_513), None);
        assert_eq!(dataset(100, 52_704), None, "one row more");
    }

    #[test]
    fn other_exchanges_rules_and_attackers_are_not_the_papers() {
        let mut spec = ScenarioSpec::new("published", "model", "data");
        assert!(is_published(&spec));
        spec.federated_lora = FederatedLora::FedSaLora;
        assert!(!is_published(&spec));
        spec.federated_lora = FederatedLora::FedIt;
        spec.server.aggregation = AggregationSpec::Median;
        assert!(!is_published(&spec));
        spec.server.aggregation = AggregationSpec::Mean;
        spec.algorithm = Algorithm::FedProx { mu: 0.1, weights: WeightsSpec::Samples, mean: Mean::Products };
        assert!(!is_published(&spec));
    }

    #[test]
    fn only_the_papers_methods_and_its_base_model_are_comparable() {
        assert_eq!(method(&Algorithm::Local), None);
        let theirs = Config { max_positions: 4096, ..Config::llama(32_000, 4096, 11_008, 32, 32) };
        assert!(is_llama_2_7b(&theirs));
        assert!(!is_llama_2_7b(&Config { max_positions: 2048, ..theirs.clone() }), "Llama-7B");
        assert!(!is_llama_2_7b(&Config { vocab_size: 32_001, ..theirs }), "Alpaca-7B");
    }
}
