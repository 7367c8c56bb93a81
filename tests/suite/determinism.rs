//! The same scenario gives the same bits: run twice, with any number of workers, with and without a store, replayed.

use super::support::{World, files, hashed, rows};

#[test]
fn two_runs_and_any_number_of_workers_and_threads_write_the_same_bytes() {
    let world = World::new();
    let first = world.run("a", &["--workers", "1"]).succeeded();
    let expected = hashed(&world.path("a"));
    assert!(expected.iter().any(|(name, _)| name == "ledger/tasks/00001-00003.parquet"), "{expected:?}");
    for (run, workers, threads) in [("b", "1", "1"), ("c", "2", "1"), ("d", "4", "3"), ("e", "1", "2")] {
        let again = world.run(run, &["--workers", workers, "--threads", threads]).succeeded();
        assert_eq!(again.summary("digest"), first.summary("digest"), "{workers} workers, {threads} threads");
        assert!(hashed(&world.path(run)) == expected, "{workers} workers with {threads} threads wrote other bytes");
    }
}

/// Workers share an evaluation of more rows than one part has.
#[test]
fn an_evaluation_in_parts_has_the_same_digest_with_one_worker_and_three() {
    let world = World::new();
    world.write("test.json", &rows(120, "test").to_string());
    let first = world.run("one", &["--workers", "1"]).succeeded();
    let again = world.run("three", &["--workers", "3"]).succeeded();
    assert_eq!(again.summary("digest"), first.summary("digest"));
    let first = world.fedreplay(&["eval", "one", "--workers", "1"]).succeeded();
    let again = world.fedreplay(&["eval", "one", "--workers", "3"]).succeeded();
    assert_eq!(again.stdout, first.stdout);
}

/// Where no GPU is, the same processor named twice stands for two: each of them holds a base model of its own.
#[test]
fn one_device_and_several_write_the_same_bytes() {
    let world = World::new();
    world.run("one", &["--workers", "2"]).succeeded();
    for (run, devices, workers) in [("two", "cpu,cpu", "2"), ("three", "cpu,cpu,cpu", "4"), ("idle", "cpu,cpu", "1")] {
        world.run(run, &["--device", devices, "--workers", workers]).succeeded();
        assert!(hashed(&world.path(run)) == hashed(&world.path("one")), "{devices} with {workers} workers");
        let manifest = fedreplay::ledger::Manifest::read(&world.path(run)).expect("a manifest");
        let named: Vec<&str> = devices.split(',').collect();
        assert_eq!(manifest.numerics["devices"], serde_json::json!(named));
    }
    world.fedreplay(&["replay", "one", "--device", "cpu,cpu"]).succeeded();
    world.fedreplay(&["eval", "one", "--device", "cpu,cpu"]).refused(2, &["several devices"]);
}

#[test]
fn a_store_changes_no_byte_and_spares_all_work() {
    let world = World::new();
    world.run("without", &[]).succeeded();
    let store = world.path("store");
    let with = ["run", "scenario.ron", "--store", store.to_str().expect("UTF-8"), "--out"];
    for run in ["first", "second"] {
        world.fedreplay(&[&with[..], &[run]].concat()).succeeded();
        assert!(hashed(&world.path(run)) == hashed(&world.path("without")), "the {run} run with a store");
    }
    let flags = super::record::column_of_bools(&world.path("second/timing/orders.parquet"), "from_store");
    assert!(!flags.is_empty() && flags.iter().all(|&found| found), "the second run computed something: {flags:?}");
}

#[test]
fn damaged_results_in_the_store_are_computed_again() {
    let world = World::new();
    let store = world.path("store");
    let run = |out| world.fedreplay(&["run", "scenario.ron", "--store", store.to_str().expect("UTF-8"), "--out", out]);
    let digest = run("first").succeeded().summary("digest").to_owned();
    for (index, (name, mut bytes)) in files(&store).into_iter().enumerate().filter(|(_, (_, bytes))| !bytes.is_empty())
    {
        let place = bytes.len() * (index % 7) / 7;
        bytes[place] ^= 1;
        std::fs::write(store.join(name), bytes).expect("a writable store");
    }
    assert_eq!(run("second").succeeded().summary("digest"), digest);
}

#[test]
fn another_seed_is_another_run() {
    let world = World::new();
    let first = world.run("a", &[]).succeeded();
    let other = world.run("b", &["--seed", "2"]).succeeded();
    assert_ne!(first.summary("digest"), other.summary("digest"));
}

#[test]
fn a_replay_agrees_and_notices_a_changed_record() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let said = world.fedreplay(&["replay", "run"]).succeeded();
    assert!(said.stdout.starts_with("same: 3 rounds"), "{}", said.stdout);

    world.run("other", &["--set", "training.lr=0.02"]).succeeded();
    std::fs::rename(world.path("other/ledger"), world.path("run/other")).expect("a writable folder");
    std::fs::remove_dir_all(world.path("run/ledger")).expect("a writable folder");
    std::fs::rename(world.path("run/other"), world.path("run/ledger")).expect("a writable folder");
    let said = world.fedreplay(&["replay", "run"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stdout.contains("round 1, table tasks, row"), "{}", said.stdout);
    let left: Vec<_> = files(&world.path(".")).into_iter().filter(|(name, _)| name.contains("replay")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_changed_network_trains_nothing_again_where_all_count() {
    let world = World::new();
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 6");
    world.edit("scenario.ron", "dropout: (during_training: 0.3)", "");
    let store = world.path("store");
    let run = |out, uplink: &str| {
        let set = format!("server.uplink={uplink}");
        let store = store.to_str().expect("UTF-8");
        world.fedreplay(&["run", "scenario.ron", "--store", store, "--out", out, "--set", &set]).succeeded()
    };
    let first = run("slow", "1 Mbit/s");
    let second = run("fast", "100 Mbit/s");
    assert_ne!(first.summary("simulated"), "");
    assert_ne!(first.summary("digest"), second.summary("digest"), "other times are another run");
    assert_eq!(first.summary("loss after"), second.summary("loss after"));
    let flags = super::record::column_of_bools(&world.path("fast/timing/orders.parquet"), "from_store");
    assert!(flags.iter().all(|&found| found), "{flags:?}");
}

#[test]
fn a_stored_update_that_cannot_be_used_ends_a_run_that_says_so() {
    let world = World::new();
    let store = world.path("store");
    let run = |out, rule: &str| {
        let rule = format!("training.unusable_update={rule}");
        let store = store.to_str().expect("UTF-8");
        let sets = ["--json", "--set", "training.lr=1e30", "--set", &rule];
        world.fedreplay(&[&["run", "scenario.ron", "--store", store, "--out", out], &sets[..]].concat())
    };
    let said = run("kept", "ZeroWeight").succeeded();
    assert!(said.stderr.contains("updates could not be used and had weight 0:\n  round "), "{}", said.stderr);
    assert!(
        said.stderr.contains(": the update changed nothing") || said.stderr.contains("not finite"),
        "{}",
        said.stderr
    );
    let last: serde_json::Value =
        serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("a line of JSON");
    assert!(last["tasks_unusable"].as_u64().is_some_and(|count| count > 0), "{last}");
    assert!(last["unusable"][0].as_str().is_some_and(|text| text.starts_with("round ")), "{last}");
    run("ended", "EndRun").refused(1, &["failed to go on after the training of client"]);
    assert_eq!(world.fedreplay(&["verify", "ended"]).code, Some(3));
}
