//! Clients that attack: what they send is aggregated, their trainings stay what they are, and the lineage says who attacked.

use std::collections::BTreeMap;

use fedreplay::ledger::{Lineage, RunTables, read_table};

use super::methods::scenario;
use super::recomputed::{self, minus};
use super::support::World;

pub const ALL: &str = "Synchronous(clients_per_round: 6, minimum: 6)";
pub const UNIFORM: &str = "FedAvg(weights: Uniform)";

/// Writes a scenario of a method with attackers, if any.
fn write(world: &World, method: &str, protocol: &str, attackers: &str) {
    let text = scenario(method, protocol);
    let end = "evaluation: (every: 9),";
    assert!(text.contains(end), "{text}");
    let attackers = if attackers.is_empty() { String::new() } else { format!("attackers: ({attackers}),") };
    world.write("scenario.ron", &text.replace(end, &format!("{end} {attackers}")));
}

pub fn run(world: &World, out: &str, scenario: [&str; 3], sets: &[&str]) -> super::support::Said {
    let [method, protocol, attackers] = scenario;
    write(world, method, protocol, attackers);
    let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
    world.fedreplay(&[&["run", "scenario.ron", "--out", out, "--store", "store"][..], &sets].concat())
}

/// What an attacker sends, from its own change and the mean of the honest ones.
type Sent = fn(&[f64], &[f64]) -> Vec<f64>;

/// Returns the lineage's orders of attacks: the order of the attacker's training, and the parameters.
pub fn attacks(world: &World, out: &str) -> Vec<(u64, String)> {
    let lineage = read_table(&world.path(out), "lineage").expect("a lineage");
    let lineage = Lineage::of(&lineage).expect("rows of lineage");
    let entries = lineage.entries.iter().filter(|entry| entry.kind == "attack");
    entries.map(|entry| (entry.inputs[0] as u64, entry.parameters.clone())).collect()
}

/// Returns the clients that attacked in any round.
pub fn attacking_clients(world: &World, out: &str) -> Vec<u64> {
    let lineage = read_table(&world.path(out), "lineage").expect("a lineage");
    let lineage = Lineage::of(&lineage).expect("rows of lineage");
    let keys: BTreeMap<u64, String> =
        lineage.entries.iter().enumerate().map(|(order, entry)| (order as u64, entry.key.to_string())).collect();
    let tasks = RunTables::read(&world.path(out)).expect("tables").tasks().expect("tasks");
    let clients = tasks.counts("client").expect("clients");
    let updates = tasks.texts("update_key").expect("keys");
    let mut found = Vec::new();
    for (order, _) in attacks(world, out) {
        let task = updates.iter().position(|key| *key == Some(keys[&order].as_str())).expect("an attacker has trained");
        found.push(clients[task]);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Returns the changes of a version's clients by client.
fn changes(world: &World, out: &str, version: u64, before: &[f64]) -> BTreeMap<u64, Vec<f64>> {
    let trainings = recomputed::trainings(&world.path(out), &world.path("store"));
    let counted = trainings.into_iter().filter(|training| training.counted_in == version);
    counted.map(|training| (training.client, minus(&training.adapter, before))).collect()
}

/// Returns the mean of changes.
pub fn mean<'a>(changes: impl Iterator<Item = &'a Vec<f64>>) -> Vec<f64> {
    let changes: Vec<&Vec<f64>> = changes.collect();
    (0..changes[0].len())
        .map(|at| changes.iter().map(|change| change[at]).sum::<f64>() / changes.len() as f64)
        .collect()
}

#[test]
fn models_have_what_attackers_send_and_tasks_what_they_trained() {
    let world = World::new();
    run(&world, "honest", [UNIFORM, ALL, ""], &[]).succeeded();
    let first_tasks = |out: &str| {
        let tasks = RunTables::read(&world.path(out)).expect("tables").tasks().expect("tasks");
        let hashes = tasks.texts("update_hash").expect("hashes").into_iter().flatten().map(str::to_owned);
        hashes.take(6).collect::<Vec<String>>()
    };
    let sent: [(&str, Sent); 4] = [
        ("clients: Number(2), attack: SignFlip()", |own, _| own.iter().map(|value| -value).collect()),
        ("clients: Share(0.4), attack: Scaling(factor: 3)", |own, _| own.iter().map(|value| 3.0 * value).collect()),
        // Three times the mean of two attackers' own in the mean of six.
        ("clients: Number(2), attack: ModelReplacement", |own, _| own.iter().map(|value| 3.0 * value).collect()),
        ("clients: Number(2), attack: InnerProduct(factor: 0.5)", |_, honest| {
            honest.iter().map(|value| -0.5 * value).collect()
        }),
    ];
    for (place, (text, send)) in sent.into_iter().enumerate() {
        let out = format!("run-{place}");
        run(&world, &out, [UNIFORM, ALL, text], &[]).succeeded();
        assert_eq!(first_tasks(&out), first_tasks("honest"), "trainings are honest");
        let attacking = attacking_clients(&world, &out);
        assert_eq!(attacking.len(), 2, "{text}");
        assert_eq!(attacks(&world, &out).len(), 4, "two clients in two rounds");
        let models = recomputed::models(&world.path(&out), &world.path("store"));
        for version in [1, 2] {
            let before = &models[&(version - 1)];
            let trained = changes(&world, &out, version, before);
            let honest =
                mean(trained.iter().filter(|(client, _)| !attacking.contains(client)).map(|(_, change)| change));
            let all: Vec<Vec<f64>> = trained
                .iter()
                .map(|(client, own)| if attacking.contains(client) { send(own, &honest) } else { own.clone() })
                .collect();
            recomputed::assert_moved(&models[&version], before, &mean(all.iter()));
        }
        for command in [&["verify", &out][..], &["replay", &out, "--store", "none"], &["replay", &out, "--client", "1"]]
        {
            world.fedreplay(command).succeeded();
        }
    }
}

#[test]
fn noise_follows_from_seed_and_task_and_has_its_deviation() {
    let world = World::new();
    let noise = "clients: Number(6), attack: Noise(deviation: 0.5)";
    let digest = run(&world, "run", [UNIFORM, ALL, noise], &[]).succeeded().summary("digest").to_owned();
    let models = recomputed::models(&world.path("run"), &world.path("store"));
    let mut steps = Vec::new();
    for version in [1, 2] {
        // The mean of six independent draws.
        let step = minus(&models[&version], &models[&(version - 1)]);
        let squares = step.iter().map(|value| value * value).sum::<f64>() / step.len() as f64;
        let expected = 0.5 / 6f64.sqrt();
        assert!((squares.sqrt() / expected - 1.0).abs() < 0.1, "{} for {expected}", squares.sqrt());
        steps.push(step);
    }
    let product: f64 = steps[0].iter().zip(&steps[1]).map(|(first, second)| first * second).sum();
    assert!(product.abs() < 0.01 * steps[0].len() as f64, "tasks have noise of their own: {product}");
    world.assert_draws_by_seed(&digest, 3);
}

#[test]
fn a_robust_rule_withstands_what_breaks_the_mean() {
    let world = World::new();
    let attack = r#"clients: Ids(["user-2"]), attack: SignFlip(factor: 1e30)"#;
    run(&world, "mean", [UNIFORM, ALL, attack], &[]).succeeded();
    run(&world, "median", [UNIFORM, ALL, attack], &["server.aggregation=Median"]).succeeded();
    assert_eq!(attacking_clients(&world, "median"), [2]);
    let largest = |out: &str| {
        let models = recomputed::models(&world.path(out), &world.path("store"));
        models[&1].iter().fold(0.0, |most: f64, value| most.max(value.abs()))
    };
    assert!(largest("mean") > 1e20 && largest("median") < 10.0, "{} and {}", largest("mean"), largest("median"));
}

#[test]
fn attackers_go_with_privacy() {
    let world = World::new();
    let private = r#"privacy={"FedLlmBenchDp":{}}"#;
    run(&world, "private", [UNIFORM, ALL, "clients: Number(1), attack: SignFlip()"], &[private]).succeeded();
}

#[test]
fn attackers_that_cannot_be_are_refused() {
    let world = World::new();
    let check = |method: &str, protocol: &str, text: &str, parts: &[&str]| {
        write(&world, method, protocol, text);
        world.run("run", &[]).refused(2, parts);
        world.fedreplay(&["plan", "scenario.ron"]).refused(2, parts);
        assert!(!world.path("run").exists());
    };
    let flip = "clients: Number(1), attack: SignFlip()";
    check("Scaffold()", ALL, flip, &["attackers", "control variates"]);
    check("Local", ALL, flip, &["attackers", "nothing is aggregated"]);
    check("Centralised", ALL, flip, &["attackers", "nothing is aggregated"]);
    check("FedAvg()", "Asynchronous(concurrency: 2)", flip, &["attackers", "use Buffered"]);
    for (text, parts) in [
        ("clients: Number(7), attack: SignFlip()", ["attackers.clients", "7 clients cannot attack, there are 6"]),
        ("clients: Share(0.1), attack: SignFlip()", ["attackers.clients", "the share of 6 clients is no client"]),
        (r#"clients: Ids(["nobody"]), attack: SignFlip()"#, ["attackers.clients", "there is no client \"nobody\""]),
        (r#"clients: Ids([]), attack: SignFlip()"#, ["attackers.clients", "at least one"]),
        (r#"clients: Ids(["user-1", "user-1"]), attack: SignFlip()"#, ["attackers.clients", "twice"]),
        ("clients: Number(0), attack: SignFlip()", ["scenario.ron:12", "at least 1"]),
        ("clients: Share(1.5), attack: SignFlip()", ["scenario.ron:12", "at most 1"]),
        ("clients: Number(1), attack: Scaling(factor: 0)", ["scenario.ron:12", "above 0"]),
        ("clients: Number(1), attack: Noise(deviation: -1)", ["scenario.ron:12", "above 0"]),
        ("clients: Number(1), attack: Alie(z: 0)", ["scenario.ron:12", "above 0"]),
    ] {
        check("FedAvg()", ALL, text, &parts);
    }
}
