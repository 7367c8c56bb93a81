//! A run checked by samples: one round, one client, and what a certificate claims.

use std::fs;

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt32Type;

use super::record::trained;
use super::support::{Said, World};

/// What a sample says it trained and read.
#[track_caller]
fn counts(said: &Said) -> (u64, u64) {
    let last: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    let count = |name: &str| last["sample"][name].as_u64().expect("a number");
    (count("trained"), count("read"))
}

#[test]
fn a_round_is_checked_without_what_comes_before() {
    let world = World::new();
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    let sample = |more: &[&str]| world.fedreplay(&[&["replay", "run", "--json"], more].concat()).succeeded();
    // Two clients a round: they alone are trained, from the model before, which is in the store.
    assert_eq!(counts(&sample(&["--round", "3", "--store", "store"])), (2, 1));
    // Without a store the model of the second round is the one that was saved; that of the first was not.
    assert_eq!(counts(&sample(&["--round", "3", "--store", "none"])), (2, 1));
    assert_eq!(counts(&sample(&["--round", "2", "--store", "none"])), (4, 0));
    assert_eq!(counts(&sample(&["--round", "1", "--store", "none"])), (2, 0));
    world.fedreplay(&["replay", "run", "--round", "4"]).refused(2, &["the run has rounds 1 to 3"]);
}

#[test]
fn one_task_is_checked_by_the_name_or_number_of_its_client() {
    let world = World::new();
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    let tasks = fedreplay::ledger::read_table(&world.path("run"), "tasks").expect("a table");
    let of = |name: &str, row: usize| tasks[name].as_primitive::<UInt32Type>().value(row);
    let in_third = (0..tasks.num_rows()).find(|&row| of("round", row) == 3 && tasks["update_key"].is_valid(row));
    let client = of("client", in_third.expect("the third round counts updates"));
    for name in [client.to_string(), format!("user-{client}")] {
        let said = world.fedreplay(&["replay", "run", "--round", "3", "--client", &name, "--store", "store", "--json"]);
        assert_eq!(counts(&said.succeeded()), (1, 1), "{name}");
    }
    world.fedreplay(&["replay", "run", "--client", "nobody"]).refused(2, &["failed to find the client nobody"]);
}

#[test]
fn a_sample_reads_no_result_that_it_checks_and_no_input_of_another_hash() {
    let world = World::new();
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    // Another run's rows under this run's name: the samples tell, the store cannot.
    world.run("other", &["--set", "seed=2"]).succeeded();
    for table in ["tasks", "lineage", "rounds", "evaluations", "events"] {
        let name = format!("ledger/{table}/00001-00003.parquet");
        fs::copy(world.path("other").join(&name), world.path("run").join(&name)).expect("a table");
    }
    let said = world.fedreplay(&["replay", "run", "--round", "2", "--store", "store"]);
    assert_eq!(said.code, Some(3), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.starts_with("different: order 0 (initial): its key is"), "{}", said.stdout);
}

#[test]
fn a_schedule_that_reads_losses_is_checked_by_samples_too() {
    let world = World::new();
    let oort = "server.selection={\"Oort\":{\"preferred\":\"1m\"}}";
    let run = ["run", "scenario.ron", "--out", "run", "--store", "store", "--set", oort];
    world.fedreplay(&run).succeeded();
    let said = world.fedreplay(&["replay", "run", "--round", "3", "--store", "store", "--json"]).succeeded();
    let rounds = fedreplay::ledger::read_table(&world.path("run"), "rounds").expect("a table");
    let counted = rounds["counted"].as_primitive::<UInt32Type>().value(2);
    assert_eq!(counts(&said), (u64::from(counted), 1));
    assert!(counted > 0, "the third round counts updates");
}

#[test]
fn a_certificate_is_checked_against_what_others_play() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let claimed = "run/certificate.json";
    let text = fs::read_to_string(world.path(claimed)).expect("a certificate");
    for secret in [world.path("").to_string_lossy().into_owned(), "/".to_owned()] {
        let lines = text.lines().filter(|line| line.contains(&secret) && !line.contains("\"numerics"));
        assert_eq!(lines.count(), 0, "a certificate names no path: {text}");
    }
    let certificate = fedreplay::run::Certificate::read(&world.path(claimed)).expect("a certificate");
    assert_eq!((certificate.rounds.len(), certificate.check()), (3, Ok(())));
    assert_eq!(certificate.libtorch.keys().collect::<Vec<_>>(), ["libc10.so", "libtorch_cpu.so"]);
    // Somebody else plays the scenario: the same digests.
    world.run("mine", &[]).succeeded();
    world.fedreplay(&["verify", "mine", "--certificate", claimed]).succeeded();
    assert_eq!(trained(&world.path("mine")), 24);
    let differs = |arguments: &[&str], expected: &str| {
        let said = world.fedreplay(arguments);
        assert_eq!(said.code, Some(3), "{}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains(expected), "{expected}: {}", said.stdout);
    };
    world.run("other", &["--set", "training.lr=0.02"]).succeeded();
    differs(&["verify", "other", "--certificate", claimed], "certificate: the scenario is another");
    // A digest or a hash that was put in does not fit the others.
    let digest = certificate.rounds[1].digest.to_string();
    world.write("forged.json", &text.replacen(&digest, &"0".repeat(64), 1));
    differs(&["verify", "mine", "--certificate", "forged.json"], "certificate: round 2: its rows give the digest");
    world.write("forged.json", &text.replace(&certificate.scenario.to_string(), &"0".repeat(64)));
    differs(&["verify", "mine", "--certificate", "forged.json"], "give the genesis");
}
