//! The scenario of `scenarios/gpu/`, played on a CPU with a tiny base: undisturbed, and killed once and resumed.

use std::process::Stdio;

use serde_json::{Map, Value, json};

use super::support::{Said, World, project};

/// What makes the scenario small.
const SMALL: [&str; 8] = [
    "--set",
    "model.folder=base",
    "--set",
    "data.file=data.json",
    "--set",
    "training.batch_size=2",
    "--set",
    "evaluation.every=3",
];

/// Two hundred clients with a few rows each.
fn federation() -> String {
    let row = |client: usize, n: usize| json!({"instruction": format!("Say {n}."), "response": format!("{client}, {n}.")});
    let rows = |client: usize| (0..3 + client % 4).map(|n| row(client, n)).collect::<Value>();
    let clients: Map<_, _> = (0..200).map(|client| (format!("client-{client:03}"), rows(client))).collect();
    Value::Object(clients).to_string()
}

#[test]
fn two_hundred_clients_killed_once_and_resumed_give_one_digest() {
    let world = World::new();
    world.write("data.json", &federation());
    let text = std::fs::read_to_string(project("scenarios/gpu/two-hundred-7b.ron")).expect("the scenario is there");
    world.write("gpu.ron", &text);
    let whole = [&["run", "gpu.ron", "--out", "whole", "--store", "none"], &SMALL[..]].concat();
    let whole = world.fedreplay(&whole).succeeded();
    assert!(whole.summary("tasks").starts_with("60 dispatched: 48 trained"), "{}", whole.stdout);

    let killed = [&["run", "gpu.ron", "--out", "killed", "--store", "store", "--workers=1"], &SMALL[..]].concat();
    let mut command = world.command(&killed);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run");
    let first = world.path("killed/ledger/rounds/00001-00001.parquet");
    while !first.exists() {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before its first round");
        std::thread::yield_now();
    }
    child.kill().expect("it is still running");
    assert_eq!(Said::of(child.wait_with_output().expect("a child")).code, None);
    let resumed = world.fedreplay(&["resume", "killed", "--store", "store"]).succeeded();
    assert_eq!(resumed.summary("digest"), whole.summary("digest"));
}
