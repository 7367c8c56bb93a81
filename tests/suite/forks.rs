//! Forks: what came before is shared, and a fork is the run that its scenario gives in an empty store.

use super::record::trained;
use super::support::World;

/// A world in which all who are asked count, so that every round trains as much as the others.
fn world() -> World {
    let world = World::new();
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 2");
    world.edit("scenario.ron", ", dropout: (during_training: 0.3)", "");
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    world.edit("scenario.ron", "rounds: 3", "rounds: 10");
    world
}

/// Ten departures, each of another field or value.
const BRANCHES: [&str; 10] = [
    "training.lr=0.02",
    "training.lr=0.005",
    "training.optimizer={\"Sgd\":{\"momentum\":0.5}}",
    "training.max_grad_norm=0.1",
    "algorithm={\"FedProx\":{\"mu\":0.5}}",
    "algorithm={\"FedAvgM\":{\"beta\":0.9}}",
    "server.selection=RoundRobin",
    "server.protocol.clients_per_round=3",
    "server.protocol.clients_per_round=1",
    "server.uplink=1 Mbit/s",
];

#[test]
fn ten_branches_at_mid_run_cost_at_most_five_and_a_half_runs() {
    let world = world();
    let played = world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    let whole = trained(&world.path("run"));
    assert_eq!(whole, 20);
    let mut spent = 0;
    let mut digests = vec![played.summary("digest").to_owned()];
    for (index, set) in BRANCHES.iter().enumerate() {
        let (out, fresh) = (format!("fork-{index}"), format!("fresh-{index}"));
        let fork = ["fork", "run", "--at-round", "6", "--set", set, "--out", &out, "--store", "store"];
        let forked = world.fedreplay(&fork).succeeded();
        spent += trained(&world.path(&out));
        let changes = format!("changes={}", serde_json::json!([{ "at_round": 6, "set": [set] }]));
        let scratch = world.run(&fresh, &["--set", &changes]).succeeded();
        assert_eq!(forked.summary("digest"), scratch.summary("digest"), "{set}");
        digests.push(forked.summary("digest").to_owned());
    }
    assert!(2 * spent <= 11 * whole, "ten branches trained {spent} tasks, one run {whole}");
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 11, "every branch differs from the run and from the others");
    // A fork is a run: it is verified and replayed like one, and forked again.
    world.fedreplay(&["verify", "fork-0"]).succeeded();
    world.fedreplay(&["replay", "fork-7"]).succeeded();
    let again =
        ["fork", "fork-0", "--at-round", "4", "--set", "training.lr=0.03", "--out", "again", "--store", "store"];
    world.fedreplay(&again).succeeded();
    let both =
        "changes=[{\"at_round\":4,\"set\":[\"training.lr=0.03\"]},{\"at_round\":6,\"set\":[\"training.lr=0.02\"]}]";
    let scratch = world.run("both", &["--set", both]).succeeded();
    let rounds = |run: &str| fedreplay::ledger::Manifest::read(&world.path(run)).expect("a manifest").digest;
    assert_eq!(rounds("again").map(|digest| digest.to_string()).as_deref(), Some(scratch.summary("digest")));
}

#[test]
fn a_fork_without_a_change_has_the_digest_of_its_run() {
    let world = world();
    let run = world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    let fork = ["fork", "run", "--at-round", "6", "--set", "training.lr=0.01", "--store", "store"];
    let fork = world.fedreplay(&fork).succeeded();
    assert_eq!(fork.summary("digest"), run.summary("digest"));
    assert_eq!(fork.summary("run"), "run-from-6");
}

#[test]
fn a_fork_under_a_protocol_with_tasks_in_flight_is_played_from_scratch_too() {
    let world = world();
    let buffered = "server.protocol={\"Buffered\":{\"concurrency\":4,\"buffer_size\":2}}";
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store", "--set", buffered]).succeeded();
    for (index, set) in [
        "training.lr=0.02",
        "server.protocol.buffer_size=3",
        "server.protocol.server_lr=0.5",
        "server.selection={\"PowerOfChoice\":{\"draw\":4}}",
    ]
    .iter()
    .enumerate()
    {
        let out = format!("fork-{index}");
        let fork = ["fork", "run", "--at-round", "5", "--set", set, "--out", &out, "--store", "store"];
        let forked = world.fedreplay(&fork).succeeded();
        let changes = format!("changes={}", serde_json::json!([{ "at_round": 5, "set": [set] }]));
        let scratch = world.run(&format!("fresh-{index}"), &["--set", buffered, "--set", &changes]).succeeded();
        assert_eq!(forked.summary("digest"), scratch.summary("digest"), "{set}");
    }
}

#[test]
fn what_cannot_change_in_mid_run_is_refused_with_its_reason() {
    let world = world();
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    for (set, reason) in [
        ("seed=2", "seed cannot change in mid-run: every draw of the run follows from it"),
        ("model.lora.rank=8", "model.lora.rank cannot change in mid-run"),
        ("data.held_out=0.1", "rows are partitioned and held out once"),
        ("training.local_steps=5", "what a task costs its device"),
        ("population.links.home.up=1 Mbit/s", "clients, their devices and their own links are placed once"),
        ("algorithm=Local", "Local or Centralised"),
        ("server.protocol={\"Buffered\":{\"concurrency\":4,\"buffer_size\":2}}", "another kind"),
        ("rounds=20", "rounds cannot change in mid-run"),
        ("training.lrr=1", "there is no field `lrr` here"),
    ] {
        let fork = ["fork", "run", "--at-round", "6", "--set", set, "--out", "fork", "--store", "store"];
        world.fedreplay(&fork).refused(2, &[reason]);
        assert!(!world.path("fork").exists(), "{set}");
    }
    let at = |round: &'static str| ["fork", "run", "--at-round", round, "--set", "training.lr=1", "--out", "fork"];
    world.fedreplay(&at("11")).refused(2, &["changes.0.at_round", "at most `rounds`, 10"]);
    world.fedreplay(&at("1")).refused(2, &["--at-round"]);
    world.edit("data.json", "It is 4 for user 3.", "It is 5 for user 3.");
    world.fedreplay(&at("6")).refused(2, &["failed to fork run: the data at", "is not what the run was made from"]);
}
