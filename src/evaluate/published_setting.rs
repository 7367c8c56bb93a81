//! Whether a run is one of FedLLM-Bench's paper, so that a published figure may stand beside its own.

use crate::benchmarks::Setting;
use crate::inputs::Inputs;
use crate::model::Config;
use crate::scenario::{Algorithm, Fidelity, Scenario};

/// A dataset with published figures: its name, its clients, and the samples of its file.
const DATASETS: [(&str, usize, u64); 3] =
    [("Fed-Aya", 38, 25_513), ("Fed-ChatbotIT", 237, 6_166), ("Fed-WildChat", 100, 52_703)];

/// The paper's setting that a run repeats: its data, its base model and one of its methods, under its code's rules.
///
/// Data and model are known by their numbers, as no hash of them is published: a synthetic twin has them too, and is
/// told by its clients' names.
pub(super) fn setting(scenario: &Scenario, inputs: &Inputs) -> Option<Setting> {
    let is_twin = inputs.read.keys().any(|role| role.starts_with("synthetic_twin_of_"));
    let is_plain = scenario.privacy.is_none() && scenario.changes.is_empty() && !is_twin;
    if scenario.fidelity != Fidelity::FedLlmBench || !is_plain || !is_llama_2_7b(inputs.trainer().config()) {
        return None;
    }
    let rows = inputs.clients.iter().map(|client| (client.train.count() + client.held_out.count()) as u64).sum();
    Some(Setting { dataset: dataset(inputs.clients.len(), rows)?, method: method(&scenario.algorithm)? })
}

/// The dataset of so many clients and rows; a few of its rows have prompts that are too long to be used.
fn dataset(clients: usize, rows: u64) -> Option<&'static str> {
    let is_it =
        |&&(_, of, samples): &&(&str, usize, u64)| clients == of && (samples - samples / 20..=samples).contains(&rows);
    DATASETS.iter().find(is_it).map(|(name, ..)| *name)
}

/// The paper's name of a method of which it has figures. Its Local is the mean of clients that it does not name, so no
/// row is comparable to it.
fn method(algorithm: &Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::FedAvg { .. } => Some("FedAvg"),
        Algorithm::FedProx { .. } => Some("FedProx"),
        Algorithm::Scaffold { .. } => Some("SCAFFOLD"),
        _ => None,
    }
}

/// Whether the base has the shape of Llama-2-7B, which Llama-7B (half the positions) and Alpaca-7B (a token more) have not.
fn is_llama_2_7b(config: &Config) -> bool {
    let of = |config: &Config| {
        let Config { vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, .. } = *config;
        (vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads)
    };
    of(config) == of(&Config::llama(32_000, 4096, 11_008, 32, 32)) && config.max_positions == 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_is_known_by_its_clients_and_rows() {
        assert_eq!(dataset(38, 25_513), Some("Fed-Aya"));
        assert_eq!(dataset(38, 25_001), Some("Fed-Aya"), "some prompts are too long");
        assert_eq!(dataset(38, 20_000), None, "a part of it");
        assert_eq!(dataset(37, 25_513), None);
        assert_eq!(dataset(100, 52_704), None, "one row more");
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
