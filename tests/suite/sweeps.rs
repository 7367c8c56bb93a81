//! Sweeps: what several settings train the same way is trained once.

use std::fs;

use super::support::World;

const SWEEP: &str = r#"(
    name: "widths",
    scenario: "scenario.ron",
    set: ["rounds=2"],
    axes: [(path: "server.uplink", values: [WIDTHS])],
)"#;

/// A world in which all who are asked count, however long they take: the network changes times and nothing else.
fn world(widths: usize) -> World {
    let world = World::new();
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 2");
    world.edit("scenario.ron", ", dropout: (during_training: 0.3)", "");
    let values: Vec<String> = (1..=widths).map(|width| format!("\"{} Mbit/s\"", width * 2)).collect();
    world.write("sweep.ron", &SWEEP.replace("WIDTHS", &values.join(", ")));
    world
}

/// Trainings that were computed in all runs of a sweep.
fn trained(world: &World, sweep: &str) -> usize {
    let entries = fs::read_dir(world.path(sweep)).expect("the sweep's folder");
    let runs = entries.map(|entry| entry.expect("a readable folder").path()).filter(|path| path.is_dir());
    runs.map(|run| super::record::trained(&run)).sum()
}

#[test]
fn twenty_bandwidths_train_what_one_does() {
    let world = world(20);
    let said = world.fedreplay(&["sweep", "sweep.ron", "--out", "sweep", "--json"]).succeeded();
    let last: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    let runs = last["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 20);
    let all = |field: &str| runs.iter().map(|run| run["summary"][field].clone()).collect::<Vec<_>>();
    assert!(all("loss_after").windows(2).all(|pair| pair[0] == pair[1]), "the same models");
    assert!(all("simulated_ns").windows(2).all(|pair| pair[0].as_u64() >= pair[1].as_u64()), "wider links are faster");
    assert_ne!(all("simulated_ns")[0], all("simulated_ns")[19]);
    let swept = trained(&world, "sweep");
    world.fedreplay(&["run", "scenario.ron", "--set", "rounds=2", "--out", "one/run", "--store", "fresh"]).succeeded();
    assert_eq!(swept, trained(&world, "one"), "no step is trained twice");
    // What is there is not played again, and the last cell is one that any store gives.
    let again = world.fedreplay(&["sweep", "sweep.ron", "--out", "sweep", "--store", "none"]).succeeded();
    assert_eq!(said.stdout.lines().count(), again.stdout.lines().count() + 1);
    let cell = "sweep/0020-uplink-40-Mbit-s";
    world.fedreplay(&["verify", cell]).succeeded();
    world.fedreplay(&["replay", cell]).succeeded();
}

#[test]
fn seeds_are_compared_in_pairs() {
    let world = World::new();
    world.write(
        "sweep.ron",
        r#"(name: "rates", scenario: "scenario.ron", set: ["rounds=1"], seeds: [1, 2],
            variants: [(name: "slow"), (name: "fast", set: ["training.lr=0.03"])])"#,
    );
    let said = world.fedreplay(&["sweep", "sweep.ron"]).succeeded();
    let line = |name: &str| said.stdout.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
    assert!(line("fast").matches('±').count() == 2, "{}", said.stdout);
    assert!(world.path("runs/rates/0003-fast-seed-1/manifest.json").is_file());
    // A call for some cells keeps the entries of the others.
    let index = || fs::read_to_string(world.path("runs/rates/sweep.json")).expect("an index");
    let all = index();
    world.fedreplay(&["sweep", "sweep.ron", "--only", "fast", "--seeds", "2"]).succeeded();
    assert_eq!(index(), all);
    // A figure that was changed is in no table of means.
    let summary = world.path("runs/rates/0003-fast-seed-1/timing/summary.json");
    let text = fs::read_to_string(&summary).expect("a summary");
    fs::write(&summary, text.replacen("\"rounds\": 1", "\"rounds\": 2", 1)).expect("a writable file");
    world.fedreplay(&["sweep", "sweep.ron"]).refused(1, &["summary.json", "it was changed after it was written"]);
    fs::write(&summary, text).expect("a writable file");
    // The folder of a cell holds a run of that cell, or nothing is played.
    world.edit("sweep.ron", "0.03", "0.04");
    world.fedreplay(&["sweep", "sweep.ron"]).refused(2, &["0003-fast-seed-1", "another scenario"]);
}

#[test]
fn mistakes_in_a_sweep_are_named() {
    let world = World::new();
    let refused = |text: &str, parts: &[&str]| {
        world.write("sweep.ron", text);
        world.fedreplay(&["sweep", "sweep.ron", "--out", "out"]).refused(2, parts);
        assert!(!world.path("out").exists());
    };
    refused(r#"(name: "s", scenario: "scenario.ron", seed: [1])"#, &["sweep.ron:1:", "did you mean `seeds`?"]);
    refused(r#"(name: "s", scenario: "scenario.ron", seeds: [1, 1])"#, &["seeds", "once"]);
    refused(r#"(name: "s", scenario: "other.ron")"#, &["other.ron"]);
    refused(r#"(name: "s", scenario: "scenario.ron", axes: [(path: "roundss", values: ["1"])])"#, &["roundss=1"]);
    refused(r#"(name: "../s", scenario: "scenario.ron")"#, &["name", "letters"]);
    refused(r#"(name: "s")"#, &["either `scenario` or `scenarios`"]);
    let twin = r#"(twin: "fed-bottle", folder: "t", length_scale: 0.05, held_out: 0.1)"#;
    refused(&format!(r#"(name: "s", scenario: "scenario.ron", twins: [{twin}])"#), &["fed-bottle", "fed-aya"]);
    let several = r#"name: "s", scenarios: [(name: "P", scenario: "scenario.ron", variants: {"B": []})]"#;
    refused(&format!("({several})"), &["P: no variant `B`"]);
    let published = r#"published: [(scenario: "P", variant: "C", figure: "1")]"#;
    refused(&format!(r#"({several}, variants: [(name: "B")], {published})"#), &["no cell has `P` and `C`"]);
}

/// A cell that cannot begin is refused with its field before the cells in front of it are run.
#[test]
fn inputs_of_all_cells_are_checked_before_any_is_run() {
    let world = World::new();
    world.write("rule.py", "");
    let refused = |set: &str, parts: &[&str]| {
        let text = r##"(name: "s", scenario: "scenario.ron", set: ["rounds=1", "server.protocol=Synchronous(clients_per_round: 9)"],
            variants: [(name: "good"), (name: "bad", set: [r#"SET"#])])"##;
        world.write("sweep.ron", &text.replace("SET", set));
        let all = [&["(cell 0002-bad of the sweep)"], parts].concat();
        world.fedreplay(&["sweep", "sweep.ron", "--out", "out", "--python", "absent"]).refused(2, &all);
        assert!(!world.path("out").exists());
    };
    let layers = "federated_lora.local_layers: it is 4, and must be less than 4";
    refused("federated_lora=FedPer(local_layers: 4)", &[layers]);
    refused("federated_lora=FedRep(local_layers: 4)", &[layers]);
    refused(r#"model.lora.target_modules=["no_proj"]"#, &["no_proj"]);
    refused(
        "attackers=(clients: Number(99), attack: SignFlip(factor: 1))",
        &["attackers.clients", "99 clients cannot attack"],
    );
    refused("server.aggregation=Krum(byzantine: 2)", &["server.aggregation", "there are 6 clients"]);
    refused(r#"data.file="absent.json""#, &["absent.json"]);
    refused(r#"data.clients=["nobody"]"#, &["nobody"]);
    refused("data.max_seq_length=100000", &["100000"]);
    refused(r#"model.folder="absent""#, &["absent"]);
    refused(r#"model.lora.initial="absent""#, &["absent"]);
    refused(r#"population.trace=(clients: "absent.parquet")"#, &["absent.parquet"]);

    refused(r#"algorithm=Python(file: "rule.py")"#, &["`absent` cannot be run"]);
    refused(r#"evaluation.benchmarks=[(name: "vicuna")]"#, &["questions"]);
}
