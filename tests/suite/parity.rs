//! Federated runs against FedLLM-Bench's loop, as tests/reference/make_federated.py writes it with Transformers and PEFT.

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, UInt32Type};
use fedreplay::ledger::read_table;
use safetensors::SafeTensors;

use crate::support::{World, project};

/// The method in the fixture's names and in a scenario, all of whose other choices follow from the fidelity.
const METHODS: [(&str, &str); 5] = [
    ("fedavg", "FedAvg()"),
    ("fedprox", "FedProx()"),
    ("fedavgm", "FedAvgM()"),
    ("fedadam", "FedAdam()"),
    ("scaffold", "Scaffold()"),
];

fn scenario(method: &str) -> String {
    let path = |name: &str| project(name).display().to_string();
    format!(
        r#"(
    name: "parity", rounds: 3, fidelity: FedLlmBench, algorithm: {method},
    model: (
        folder: "{}",
        lora: (rank: 2, alpha: 4, dropout: 0, initial: "{}"),
    ),
    data: (file: "{}", max_seq_length: 160),
    training: (
        local_steps: 3, batch_size: 2, gradient_accumulation: 2, lr: 5e-3, lr_schedule: Cosine(final_lr: 1e-6),
    ),
    server: (protocol: Synchronous(clients_per_round: 2), downlink: "1 Gbit/s", uplink: "1 Gbit/s"),
    population: (
        devices: {{ "gpu": (speed: "1 TFLOP/s") }},
        links: {{ "lan": (down: "1 Gbit/s", up: "1 Gbit/s") }},
        mix: [(share: 1, device: "gpu", link: "lan")],
    ),
    output: (save_adapter_every: 1),
)"#,
        path("fixtures/tiny-base"),
        path("fixtures/federated/initial"),
        path("fixtures/federated/data.json"),
    )
}

/// The tensors of a file by name, as f32, without a prefix that names must have.
fn tensors(path: &Path, prefix: &str) -> Vec<(String, Vec<f32>)> {
    let bytes = std::fs::read(path).expect("the file is there");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let named = |(name, view): (String, safetensors::tensor::TensorView)| {
        name.strip_prefix(prefix).map(|name| (name.to_owned(), values(view.data())))
    };
    let mut found: Vec<_> = file.tensors().into_iter().filter_map(named).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The largest distance of two adapters, as a part of the second one's distance from `start`.
fn distance(found: &Path, expected: (&Path, usize), start: &Path) -> f64 {
    let found = tensors(found, "");
    let expected = tensors(expected.0, &format!("{}.", expected.1));
    let start = tensors(start, "");
    let names = |list: &[(String, Vec<f32>)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    let square = |a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]| -> f64 {
        let pairs = a.iter().zip(b).flat_map(|((_, a), (_, b))| a.iter().zip(b));
        pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    };
    (square(&found, &expected) / square(&expected, &start)).sqrt()
}

#[test]
fn federated_runs_are_those_of_the_published_loop() {
    let world = World::new();
    let fixtures = project("fixtures/federated");
    let text = std::fs::read_to_string(fixtures.join("expected.json")).expect("the fixture is there");
    let expected: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (name, method) in METHODS {
        world.write("scenario.ron", &scenario(method));
        world.run(name, &[]).succeeded();
        let tasks = read_table(&world.path(name), "tasks").expect("a table");
        let column = |name: &str| tasks[name].as_primitive::<UInt32Type>().values().to_vec();
        let (rounds, clients) = (column("round"), column("client"));
        let found: Vec<_> = ["loss_first", "loss_last", "loss_mean"]
            .map(|name| tasks[name].as_primitive::<Float64Type>().values().to_vec())
            .to_vec();
        assert_eq!(rounds.len(), 6);
        for (row, (round, client)) in rounds.iter().zip(&clients).enumerate() {
            let losses = &expected[name][*round as usize - 1]["losses"][client.to_string()];
            let losses: Vec<f64> = serde_json::from_value(losses.clone()).expect("the loop asked the same client");
            let wanted = [losses[0], losses[2], losses.iter().sum::<f64>() / 3.0];
            for (found, wanted) in found.iter().zip(wanted) {
                let apart = (found[row] - wanted).abs();
                assert!(apart < 1e-4, "{name}, round {round}, client {client}: {} against {wanted}", found[row]);
            }
        }
        for round in 0..3 {
            let adapter = world.path(name).join(format!("adapters/round-{:05}/adapter_model.safetensors", round + 1));
            let published = fixtures.join(format!("{name}.safetensors"));
            let start = fixtures.join("initial/adapter_model.safetensors");
            let apart = distance(&adapter, (&published, round), &start);
            assert!(apart < 1e-3, "{name}, round {}: {apart} of the change", round + 1);
        }
    }
}
