//! Forecasts of memory: which copies of an adapter are counted under each method, and that runs take what is forecast.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::own_rule::{MEAN, python};
use super::support::{Said, World};

/// Values of an adapter of rank 16, which needs no padding, on `q_proj` and `v_proj` of the tiny base: four layers with two modules of 128 x 128.
const VALUES: i64 = 4 * 2 * 16 * (128 + 128);

/// Six clients, two of which train in each of three rounds, so that each may keep something.
fn world() -> World {
    let world = World::new();
    world.edit("scenario.ron", "rank: 4, alpha: 8", "rank: 16, alpha: 16");
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 2");
    world.edit("scenario.ron", ", dropout: (during_training: 0.3)", "");
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    world
}

/// Returns the forecast of memory of a scenario, on one worker that trains two clients in a pass.
fn forecast(world: &World, sets: &[&str]) -> Value {
    let mut arguments = vec!["scenario", "check", "scenario.ron", "--workers", "1", "--json"];
    for set in ["execution.cohort_batch=2", "model.precision=F32"].iter().chain(sets) {
        arguments.extend(["--set", set]);
    }
    let said = world.fedreplay(&arguments).succeeded();
    let line: Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    line["forecast"]["memory"].clone()
}

fn bytes(memory: &Value, part: &str) -> i64 {
    memory[part].as_i64().expect("a number of bytes")
}

/// Sizes in adapters, by hand. The server's models take four: the last, the one before, and a mean in f64.
#[test]
fn updates_models_and_what_clients_keep_are_counted() {
    let world = world();
    let check = |sets: &[&str], adapters: i64| {
        let memory = forecast(&world, sets);
        assert_eq!(bytes(&memory, "updates"), 4 * VALUES * adapters, "{sets:?}");
        assert_eq!(bytes(&memory, "rules"), 0);
    };
    check(&[], 4 + 2);
    // What each of six clients keeps.
    check(&["algorithm=Scaffold()"], 4 + 2 + 6);
    check(&["training.optimizer_state=Kept"], 4 + 2 + 6 * 2);
    check(&["training.optimizer_state=Kept", "training.optimizer=Sgd(momentum: 0.9)"], 4 + 2 + 6);
    check(&["training.optimizer_state=Kept", "training.optimizer=Sgd()"], 4 + 2);
    check(&["server.uplink_codec=TopK(share: 0.1)"], 4 + 2 * 2 + 6);
    // What the server receives in the place of an update, and the model that clients receive.
    check(&["server.uplink_codec=Int8()"], 4 + 2 * 2);
    check(&["server.downlink_codec=Int8()"], 4 + 2 + 1);
    // An update, and the model that its client began with; six models that are evaluated; what six clients keep.
    for method in ["FedSaLora", "FedPer(local_layers: 1)", "FedRep(local_layers: 1)"] {
        check(&[&format!("federated_lora={method}")], 4 + 2 * 2 + 6 + 6);
    }
    // Two trainings of each client.
    check(&["federated_lora=Ditto()"], 4 + 2 * 2 * 2 + 6 + 6);
    // An update, what is left of it, and the model that its client began with.
    check(&["federated_lora=HetLoraPruning()"], 4 + 2 * 3);
}

/// Copies in quarters of an adapter, by hand: of each of two jobs in a pass, and of one job in a step.
#[test]
fn copies_that_methods_train_with_are_counted() {
    let world = world();
    let plain = bytes(&forecast(&world, &[]), "adapters");
    let check = |set: &str, quarters: i64| {
        assert_eq!(bytes(&forecast(&world, &[set]), "adapters") - plain, VALUES * quarters, "{set}");
    };
    check("federated_lora=FlexLora", 0);
    check("federated_lora=FedPer(local_layers: 1)", 0);
    // The center; the difference from it and its multiple.
    check("algorithm=FedProx(mu: 0.1)", 2 * 4 + 8);
    check("federated_lora=Ditto()", 2 * 4 + 8);
    check("algorithm=Scaffold()", 2 * 4 + 4);
    // The values at the start and a mask of one byte for each; the values after a step.
    check("federated_lora=FfaLora", 2 * 5 + 4);
    // Two masks.
    check("federated_lora=FedRep(local_layers: 1)", 2 * 6 + 4);
    // Three copies in f64.
    check("federated_lora=HetLoraPruning()", 6 * 4);
}

/// [byte] -- Returns the memory of a process and of all that descend from it, where pages that several share count once.
fn bytes_of_tree(process: u32) -> u64 {
    let folder = format!("/proc/{process}");
    let read = |file: &Path| fs::read_to_string(file).unwrap_or_default();
    let table = read(&Path::new(&folder).join("smaps_rollup"));
    let line = table.lines().find_map(|line| line.strip_prefix("Pss:"));
    let own = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0);
    1024 * own + children(process).into_iter().map(bytes_of_tree).sum::<u64>()
}

/// Returns the processes that a process has started, by any of its threads.
fn children(process: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|number| number.parse::<u32>().ok()));
    }
    found
}

#[test]
fn the_processes_of_a_rule_take_what_is_forecast() {
    let Some(python) = python() else { return };
    let world = world();
    world.write("rule.py", MEAN);
    world.edit("scenario.ron", "rank: 16, alpha: 16", "rank: 512, alpha: 512");
    world.edit("scenario.ron", "rounds: 3", "rounds: 1");
    let common =
        ["scenario.ron", "--python", &python, "--workers", "1", "--set", r#"algorithm=Python(file: "rule.py")"#];
    let check = world.fedreplay(&[&["scenario", "check", "--json"][..], &common].concat()).succeeded();
    let line: Value = serde_json::from_str(check.stdout.lines().last().expect("a line")).expect("JSON");
    let memory = &line["forecast"]["memory"];
    // The process holds two updates with four copies each, and eight of the model, besides the server's.
    let adapter = 4 * VALUES * 512 / 16;
    assert_eq!(bytes(memory, "updates"), adapter * (4 + 2 + 4 * 2 + 8));
    // Requests and replies, in f64, of the model and two updates and of three copies of the model; two Pythons with numpy and a fork.
    let loaded = (bytes(memory, "rules") - 2 * adapter * (3 + 3) - (8 << 20)) / 2;
    assert!((15 << 20..120 << 20).contains(&loaded), "{loaded}");
    let mut run = world.command(&[&["run", "--out", "run", "--store", "none"][..], &common].concat());
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run");
    let mut peak = 0;
    while run.try_wait().expect("a child").is_none() {
        peak = peak.max(children(run.id()).into_iter().map(bytes_of_tree).sum());
    }
    assert!(run.wait().expect("a child").success());
    let share = peak as f64 / bytes(memory, "rules") as f64;
    // Samples may miss the highest moment.
    assert!((0.6..1.1).contains(&share), "{peak} B at the peak: {memory}");
    let said: Said = world.fedreplay(&[&["scenario", "check"][..], &common].concat()).succeeded();
    assert!(said.stdout.contains("of the rule's processes"), "{}", said.stdout);
}
