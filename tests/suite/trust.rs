//! FLTrust: the server's own training is an order like those of clients, its time is in the schedule, and the models are those of
//! the paper's formula.

use std::collections::BTreeMap;

use fedreplay::ledger::{Lineage, RunTables, TableView, read_table};

use super::attacks::{ALL, UNIFORM, attacking_clients, run};
use super::methods::{PROTOCOLS, scenario};
use super::recomputed::{self, minus};
use super::support::{Said, World, rows};

const RULE: &str = r#"server.aggregation=FlTrust(speed: "10 MFLOP/s")"#;

fn world() -> World {
    let world = World::new();
    world.write("root.json", &rows(7, "root").to_string());
    world
}

/// Runs a scenario under FLTrust.
fn trust(world: &World, out: &str, scenario: [&str; 3], sets: &[&str]) -> Said {
    run(world, out, scenario, &[&[RULE, r#"data.root_file="root.json""#], sets].concat())
}

/// Returns the keys of the trainings in the lineage that are those of no task: the server's own, in order.
fn trainings_of_server(world: &World, out: &str) -> Vec<String> {
    let lineage = read_table(&world.path(out), "lineage").expect("a lineage");
    let lineage = Lineage::of(&lineage).expect("rows of lineage");
    let tasks = RunTables::read(&world.path(out)).expect("tables").tasks().expect("tasks");
    let updates: Vec<&str> = tasks.texts("update_key").expect("keys").into_iter().flatten().collect();
    let trainings = lineage.entries.iter().filter(|entry| entry.kind == "train");
    trainings.map(|entry| entry.key.to_string()).filter(|key| !updates.contains(&key.as_str())).collect()
}

fn length(values: &[f64]) -> f64 {
    product(values, values).sqrt()
}

fn product(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

fn counts(table: &TableView, column: &str) -> Vec<u64> {
    table.counts(column).expect("counts")
}

/// Checks each model of a run with the formula of the paper, with a step of the server along the result, and `tasks.weight`.
fn check_models(world: &World, out: &str) {
    let models = recomputed::models(&world.path(out), &world.path("store"));
    let trainings = recomputed::trainings(&world.path(out), &world.path("store"));
    let of_server = trainings_of_server(world, out);
    let tasks = RunTables::read(&world.path(out)).expect("tables").tasks().expect("tasks");
    let clients = counts(&tasks, "client");
    let versions = tasks.counts_or_none("counted_in_version").expect("versions");
    let weights = tasks.numbers("weight").expect("weights");
    assert_eq!(of_server.len(), 2, "one training of the server in each round");
    for version in [1, 2] {
        let before = &models[&(version - 1)];
        let own = minus(&recomputed::stored(&world.path("store"), &of_server[version as usize - 1]), before);
        assert!(length(&own) > 1e-3, "the server has trained");
        let mut scores = BTreeMap::new();
        let mut sum = vec![0.0; before.len()];
        for training in trainings.iter().filter(|training| training.counted_in == version) {
            let sent = minus(&training.received, before);
            let score = (product(&sent, &own) / length(&sent) / length(&own)).max(0.0);
            let scale = length(&own) / length(&sent);
            sum.iter_mut().zip(&sent).for_each(|(sum, value)| *sum += score * scale * value);
            scores.insert(training.client, (score, scale));
        }
        let total: f64 = scores.values().map(|(score, _)| score).sum();
        let change: Vec<f64> = sum.iter().map(|sum| sum / total).collect();
        recomputed::assert_moved(&models[&version], before, &change);
        for task in (0..clients.len()).filter(|&task| versions[task] == Some(version)) {
            let (score, scale) = scores[&clients[task]];
            let weight = weights[task].expect("it counted");
            assert!((weight - score * scale / total).abs() < 1e-6, "task {task}: {weight}");
        }
    }
}

#[test]
fn models_follow_from_the_updates_and_the_servers_own_training() {
    let world = world();
    let digest = trust(&world, "run", [UNIFORM, ALL, ""], &[]).succeeded().summary("digest").to_owned();
    check_models(&world, "run");
    for command in [&["verify", "run"][..], &["replay", "run", "--store", "none"], &["replay", "run", "--client", "1"]]
    {
        world.fedreplay(command).succeeded();
    }
    // The rows of the server, and nothing else about the file, decide the result.
    world.write("moved.json", &rows(7, "root").to_string());
    let moved = r#"data.root_file="moved.json""#;
    assert_eq!(trust(&world, "moved", [UNIFORM, ALL, ""], &[moved]).succeeded().summary("digest"), digest);
    world.write("moved.json", &rows(7, "another root").to_string());
    assert_ne!(trust(&world, "other", [UNIFORM, ALL, ""], &[moved]).succeeded().summary("digest"), digest);
    // Factors that rest are not in the comparison.
    trust(&world, "ffa", [UNIFORM, ALL, ""], &["federated_lora=FfaLora"]).succeeded();
    check_models(&world, "ffa");
}

#[test]
fn an_attacker_that_turns_around_is_left_out() {
    let world = world();
    let attack = "clients: Number(2), attack: SignFlip(factor: 10)";
    trust(&world, "run", [UNIFORM, ALL, attack], &[]).succeeded();
    check_models(&world, "run");
    let attacking = attacking_clients(&world, "run");
    let tasks = RunTables::read(&world.path("run")).expect("tables").tasks().expect("tasks");
    let weights = tasks.numbers("weight").expect("weights");
    let clients = counts(&tasks, "client");
    let first: Vec<(u64, f64)> = clients.into_iter().zip(weights.into_iter().flatten()).take(6).collect();
    assert_eq!((attacking.len(), first.len()), (2, 6));
    assert!(first.iter().all(|(client, weight)| (*weight == 0.0) == attacking.contains(client)), "{first:?}");
}

/// The server's steps cost what those of a client with the same rows cost, and the next round begins when they are done.
#[test]
fn rounds_wait_for_the_servers_own_training() {
    let world = world();
    let times = |out: &str, rule: &str| {
        let sets = [r#"data.root_file="root.json""#, rule, "network=Unlimited", r#"server.aggregation_time="7ms""#];
        run(&world, out, [UNIFORM, ALL, ""], &sets).succeeded();
        let tables = RunTables::read(&world.path(out)).expect("tables");
        let rounds = tables.rounds();
        [counts(rounds, "opened_at_ns"), counts(rounds, "closed_at_ns")]
    };
    let [opened, closed] = times("slow", r#"server.aggregation=FlTrust(speed: "1 MFLOP/s")"#);
    // A client with the rows of the server, alone in a federation.
    world.write("data.json", &serde_json::json!({ "server": rows(7, "root") }).to_string());
    world.write("scenario.ron", &scenario(UNIFORM, "Synchronous(clients_per_round: 1)"));
    world.run("client", &["--set", "data.held_out=0"]).succeeded();
    let tasks = RunTables::read(&world.path("client")).expect("tables").tasks().expect("tasks");
    let flops = counts(&tasks, "compute_flops")[0];
    let training = flops * 1000;
    assert!(closed[0] < training, "the updates arrive first: {} and {training}", closed[0]);
    assert_eq!(opened, [0, training + 7_000_000]);
    world.write("data.json", &super::support::data(6, 8));
    let [opened, closed] = times("quick", r#"server.aggregation=FlTrust(speed: "1 PFLOP/s")"#);
    assert_eq!(opened, [0, closed[0] + 7_000_000], "a quick server is not waited for");
    // A plan has the same schedule without training.
    let plan = ["plan", "scenario.ron", "--out", "plan", "--set", RULE, "--set", r#"data.root_file="root.json""#];
    world.fedreplay(&plan).succeeded();
    trust(&world, "run", [UNIFORM, ALL, ""], &[]).succeeded();
    let opened = ["plan", "run"].map(|out| {
        let tables = RunTables::read(&world.path(out)).expect("tables");
        counts(tables.rounds(), "opened_at_ns")
    });
    assert_eq!(opened[0], opened[1]);
}

#[test]
fn what_does_not_go_with_the_servers_training_is_refused() {
    let world = world();
    for (name, protocol) in PROTOCOLS.iter().filter(|(name, _)| *name != "synchronous") {
        let said = trust(&world, name, [UNIFORM, protocol, ""], &[]);
        said.refused(2, &["server.aggregation", "as in the rounds of Synchronous"]);
    }
    let refused = |sets: &[&str], parts: &[&str]| {
        trust(&world, "run", [UNIFORM, ALL, ""], sets).refused(2, parts);
    };
    refused(&["data.root_file=None"], &["data.root_file", "FlTrust needs a file of rows"]);
    refused(&[r#"server.aggregation=FlTrust(speed: "0 FLOP/s")"#], &["server.aggregation.speed", "above 0"]);
    refused(&["training.optimizer_state=Kept"], &["server.aggregation", "optimizer_state: Kept"]);
    refused(&["federated_lora=FedSaLora"], &["server.aggregation", "FedSA-LoRA"]);
    refused(&[r#"privacy={"FedLlmBenchDp":{}}"#], &["server.aggregation", "does not go with `privacy`"]);
    refused(&[r#"data.root_file="nowhere.json""#], &["nowhere.json"]);
    refused(
        &[r#"changes=[(at_round: 2, set: ["server.aggregation=Median"])]"#],
        &["changes.0.set", "server.aggregation cannot become, cease to be or change FlTrust"],
    );
    world.write("root.json", "[]");
    refused(&[], &["root.json"]);
    assert!(!world.path("run").exists());
}
