//! Scenarios in virtual time: `plan` against `run`, every protocol and selection, and what does not count is not trained.

use std::fs;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use fedreplay::ledger::read_table;

use super::support::{World, project};

/// The small world with other settings of the server.
fn world(server: &str, more: &[(&str, &str)]) -> World {
    let world = World::new();
    world.edit(
        "scenario.ron",
        "protocol: Synchronous(clients_per_round: 2, over_selection: 2, deadline: \"10m\"),",
        &format!("{server},"),
    );
    world.edit("scenario.ron", "evaluation: (local_baseline: true)", "evaluation: (every: 1000)");
    more.iter().for_each(|(from, to)| world.edit("scenario.ron", from, to));
    world
}

/// Protocols and selections that read no results, with what they need elsewhere in the scenario.
fn servers() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let synchronous = "protocol: Synchronous(clients_per_round: 2, over_selection: 1, deadline: \"40s\")";
    let mut servers: Vec<(&str, Vec<(&str, &str)>)> = vec![
        (synchronous, vec![]),
        ("protocol: Synchronous(clients_per_round: 3, deadline: \"30s\", stragglers: Finish)", vec![]),
        ("protocol: SemiSynchronous(window: \"20s\", concurrency: 4, max_staleness: 2)", vec![]),
        ("protocol: Buffered(concurrency: 4, buffer_size: 2, max_staleness: 1)", vec![]),
        ("protocol: Asynchronous(concurrency: 3, discount: Hinge(slope: 2, from: 1))", vec![]),
        ("protocol: Tiered(tiers: 2, clients_per_round: 2, deadline: \"2m\")", vec![]),
        (
            "protocol: Hierarchical(edges: [
                (region: \"a\", down: \"5 Mbit/s\", up: \"5 Mbit/s\", downlink: \"9 Mbit/s\", uplink: \"9 Mbit/s\"),
                (region: \"b\", down: \"5 Mbit/s\", up: \"5 Mbit/s\", downlink: \"9 Mbit/s\", uplink: \"9 Mbit/s\")],
                edge_rounds: 2, clients_per_round: 2)",
            vec![
                ("device: \"quick\", link: \"home\"", "device: \"quick\", link: \"home\", region: \"a\""),
                ("device: \"slow\", link: \"home\"", "device: \"slow\", link: \"home\", region: \"b\""),
            ],
        ),
    ];
    for selection in ["Poisson(rate: 0.5)", "BySize", "RoundRobin", "AvailabilityAware", "PythonSample"] {
        let over = if selection.starts_with("Poisson") { "" } else { ", over_selection: 1" };
        let text =
            format!("protocol: Synchronous(clients_per_round: 2{over}, deadline: \"2m\"), selection: {selection}");
        let awake = (
            "device: \"slow\", link: \"home\"",
            "device: \"slow\", link: \"home\", availability: Markov(online: \"5m\", offline: \"1m\")",
        );
        servers.push((Box::leak(text.into_boxed_str()), vec![awake]));
    }
    servers
}

/// The columns of a table that virtual time decides.
fn timed(rows: &RecordBatch) -> RecordBatch {
    let learnt = [
        "reason",
        "steps",
        "tokens",
        "target_tokens",
        "loss_first",
        "loss_last",
        "loss_mean",
        "update_norm",
        "aggregation_error",
        "weight",
        "update_key",
        "update_hash",
        "train_loss",
        "model_key",
        "model_hash",
        "evaluation_rows",
        "generation_rows",
        "lineage_rows",
        "aggregation_rows",
        "rows_digest",
        "digest",
    ];
    let schema = rows.schema();
    let kept: Vec<usize> =
        (0..rows.num_columns()).filter(|&column| !learnt.contains(&schema.field(column).name().as_str())).collect();
    rows.project(&kept).expect("columns of the table")
}

fn texts(rows: &RecordBatch, column: &str) -> Vec<String> {
    rows[column].as_string::<i32>().iter().map(|text| text.unwrap_or("null").to_owned()).collect()
}

fn total(rows: &RecordBatch, column: &str) -> u64 {
    rows[column].as_primitive::<UInt32Type>().iter().flatten().map(u64::from).sum()
}

#[test]
fn plan_and_run_have_the_same_times_and_only_what_counts_is_trained() {
    for (server, more) in servers() {
        let world = world(server, &more);
        let ran = world.run("run", &[]).succeeded();
        let planned = world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
        for table in ["population", "events", "tasks", "rounds"] {
            let [run, plan] = ["run", "plan"].map(|folder| read_table(&world.path(folder), table).expect("a table"));
            assert!(timed(&run) == timed(&plan), "{server}: {table}\n{}\n{}", ran.stdout, planned.stdout);
        }
        let [tasks, rounds] = ["tasks", "rounds"].map(|name| read_table(&world.path("run"), name).expect("a table"));
        let trained = tasks["steps"].len() - tasks["steps"].null_count();
        let counted = texts(&tasks, "fate").iter().filter(|fate| *fate == "counted").count();
        assert_eq!(trained, counted, "{server}");
        assert_eq!(counted as u64, total(&rounds, "counted"), "{server}");
        assert!(counted > 0, "{server}: nothing counted\n{}", planned.stdout);
        // Tasks of a tier's round that is open at the end of the run are in no round's count.
        assert!(total(&rounds, "dispatched") <= tasks.num_rows() as u64, "{server}");
        for folder in ["run", "plan"] {
            world.fedreplay(&["verify", folder]).succeeded();
        }
        world.fedreplay(&["replay", "run"]).succeeded();
    }
}

#[test]
fn selections_that_read_losses_train_as_they_go() {
    for selection in ["PowerOfChoice(draw: 4)", "Oort(preferred: \"30s\")"] {
        let server = format!("protocol: Synchronous(clients_per_round: 2, over_selection: 1), selection: {selection}");
        let world = world(&server, &[("rounds: 3", "rounds: 5")]);
        let first = world.run("a", &["--workers", "1"]).succeeded();
        let second = world.run("b", &["--workers", "3"]).succeeded();
        assert_eq!(first.summary("digest"), second.summary("digest"), "{selection}");
        let tasks = read_table(&world.path("a"), "tasks").expect("a table");
        let trained = tasks["steps"].len() - tasks["steps"].null_count();
        assert_eq!(trained, texts(&tasks, "fate").iter().filter(|fate| *fate == "counted").count(), "{selection}");
        assert!(trained >= 8, "{selection}: {trained} of five rounds of two");
        world.fedreplay(&["replay", "a"]).succeeded();
        let planned = world.fedreplay(&["plan", "scenario.ron"]).succeeded();
        assert!(planned.summary("stand-in").contains("1 nats/token stands for each"), "{}", planned.stdout);
        // Another loss is another choice: the selection did read them.
        let other = world.run("c", &["--set", "training.lr=2.0", "--set", "rounds=5"]).succeeded();
        assert_ne!(first.summary("digest"), other.summary("digest"));
    }
}

/// Hashes of the server's models, round by round.
fn models(world: &World, run: &str) -> Vec<String> {
    texts(&read_table(&world.path(run), "rounds").expect("a table"), "model_hash")
}

#[test]
fn fedbuff_with_a_buffer_of_the_cohort_and_equal_speeds_is_fedavg() {
    let alike = [
        ("(share: 1, device: \"slow\", link: \"home\", dropout: (during_training: 0.3)),", ""),
        ("jitter: 0.2, ", ""),
        ("held_out: 0.2", "held_out: 0.0"),
        ("downlink: \"10 Mbit/s\",", ""),
        ("uplink: \"10 Mbit/s\",", ""),
        ("evaluation: (", "network: Unlimited, evaluation: ("),
    ];
    let rows: serde_json::Value = serde_json::from_str(&super::support::data(1, 8)).expect("JSON");
    let clients: serde_json::Map<_, _> = (0..6).map(|n| (format!("user-{n}"), rows["user-0"].clone())).collect();
    let play = |server: &str| {
        let world = world(server, &alike);
        world.write("data.json", &serde_json::Value::Object(clients.clone()).to_string());
        world.run("run", &[]).succeeded();
        models(&world, "run")
    };
    let synchronous = play("protocol: Synchronous(clients_per_round: 3)");
    let buffered = play("protocol: Buffered(concurrency: 3, buffer_size: 3)");
    assert_eq!(synchronous, buffered);
    assert_eq!(synchronous.len(), 3);
    let slower = play("protocol: Buffered(concurrency: 3, buffer_size: 3, server_lr: 0.5)");
    assert_ne!(synchronous, slower);
}

#[test]
fn every_system_scenario_can_be_planned() {
    let world = World::new();
    for entry in fs::read_dir(project("scenarios/system")).expect("the folder is there") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_none_or(|ending| ending != "ron") {
            continue;
        }
        let file = path.to_str().expect("UTF-8");
        // The clients of the large ones are cut, and a few rounds of each are enough. A trace has the clients that it has.
        let clients = if file.ends_with("traced.ron") { "8" } else { "1500" };
        let cut = format!("data.synthetic.clients={clients}");
        let said = world.fedreplay(&["plan", file, "--json", "--set", "rounds=3", "--set", &cut]);
        let said = said.succeeded();
        let last: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
        assert!(last["outcomes"]["counted"].as_u64() > Some(0), "{file}: {}", said.stdout);
        assert_eq!(last["failed"], serde_json::json!({}), "{file}: {}", said.stdout);
        world.fedreplay(&["run", file, "--out", "run"]).refused(2, &["model.folder is missing", "fedreplay plan"]);
        assert!(!world.path("run").exists());
    }
}

/// The expected counts are `floor(rows * share + 0.5)`, and at least one row is left to train on.
#[test]
fn synthetic_rows_are_held_out_as_those_of_a_file() {
    for (rows, share, expected) in [(10, "0.25", 3), (2, "0.25", 1), (10, "0.15", 2), (5, "0.1", 1), (1, "0.9", 0)] {
        let counts = |data: &str| {
            let world = world("protocol: Synchronous(clients_per_round: 1)", &[]);
            world.write("rows.json", &super::support::rows(rows, "it").to_string());
            world.edit("scenario.ron", "file: \"data.json\", test_file: \"test.json\"", data);
            world.edit("scenario.ron", "held_out: 0.2", &format!("held_out: {share}"));
            world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
            let population = read_table(&world.path("plan"), "population").expect("a table");
            ["train_rows", "held_out_rows"].map(|name| population[name].as_primitive::<UInt64Type>().value(0))
        };
        let synthetic = counts(&format!("synthetic: (clients: 1, rows: Fixed({rows}), tokens_per_row: 38)"));
        assert_eq!(synthetic, [rows as u64 - expected, expected], "{rows} rows, {share}");
        assert_eq!(counts("file: \"rows.json\""), synthetic, "{rows} rows, {share}");
    }
}

/// A table of quantiles with one value leaves a task no choice: three times as slow is a third of the speed.
#[test]
fn a_slowdown_is_a_table_of_quantiles() {
    let server = "protocol: Synchronous(clients_per_round: 6)";
    let play = |quick: &str| {
        let world = world(server, &[("speed: \"1 GFLOP/s\", jitter: 0.2", quick), (", jitter: 0.4", "")]);
        world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
        let tasks = read_table(&world.path("plan"), "tasks").expect("a table");
        let numbers = tasks["task"].as_primitive::<UInt64Type>().values().iter();
        let mut times: Vec<_> = numbers.zip(tasks["training_ns"].as_primitive::<Int64Type>().values()).collect();
        times.sort_unstable();
        times.into_iter().map(|(_, &time)| time).collect::<Vec<_>>()
    };
    let refused = |to: &str, parts: &[&str]| {
        world(server, &[("jitter: 0.2", to)]).fedreplay(&["plan", "scenario.ron"]).refused(2, parts);
    };
    let (table, speed) = (play("speed: \"999 MFLOP/s\", slowdown: [3]"), play("speed: \"333 MFLOP/s\""));
    assert!(table.iter().zip(&speed).all(|(a, b)| a.abs_diff(*b) <= 3), "{table:?} {speed:?}");
    let spread = play("speed: \"999 MFLOP/s\", slowdown: [1, 3]");
    assert!(spread.iter().zip(&table).all(|(between, most)| between <= most) && spread != table);
    refused("jitter: 0.2, slowdown: [1]", &["devices.quick.slowdown", "both are given"]);
    refused("slowdown: [2, 1]", &["devices.quick.slowdown", "ascending"]);
    refused("slowdown: []", &["devices.quick.slowdown", "ascending"]);
}

#[test]
fn a_device_too_small_is_never_asked_or_runs_out_of_memory() {
    let small = ("\"quick\": (speed: \"1 GFLOP/s\"", "\"quick\": (memory: \"1 MB\", speed: \"1 GFLOP/s\"");
    let server = "protocol: Synchronous(clients_per_round: 6, deadline: \"10m\")";
    let plan = |server: &str| world(server, &[small]).fedreplay(&["plan", "scenario.ron"]).succeeded();
    let said = plan(server);
    assert!(said.summary("participation").starts_with("3 of 6 clients asked"), "{}", said.stdout);
    let said = plan(&format!("{server}, memory: Fail"));
    assert!(said.summary("tasks").contains("out_of_memory"), "{}", said.stdout);
}

#[test]
fn the_base_model_is_downloaded_once() {
    let server = "protocol: Synchronous(clients_per_round: 6)";
    let bytes = |server: &str| {
        let world = world(server, &[("dropout: (during_training: 0.3)", "")]);
        world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
        let tasks = read_table(&world.path("plan"), "tasks").expect("a table");
        tasks["bytes_down"].as_primitive::<UInt64Type>().values().to_vec()
    };
    let (without, with) = (bytes(server), bytes(&format!("{server}, sends_base: true")));
    let more: Vec<u64> = with.iter().zip(&without).map(|(with, without)| with - without).collect();
    let first = more[0];
    assert!(more[..6].iter().all(|&more| more > 1_000_000 && more == first), "{more:?}");
    assert!(more[6..].iter().all(|&more| more == 0), "{more:?}");
}

#[test]
fn failed_rounds_state_their_reason_and_nothing_hangs() {
    let asleep = (
        "device: \"slow\", link: \"home\"",
        "device: \"slow\", link: \"home\", availability: Trace(online: [(\"0s\", \"1s\")])",
    );
    let quick = (
        "device: \"quick\", link: \"home\"",
        "device: \"quick\", link: \"home\", availability: Trace(online: [(\"0s\", \"1s\")])",
    );
    let world = world("protocol: Synchronous(clients_per_round: 2)", &[asleep, quick]);
    let said = world.fedreplay(&["plan", "scenario.ron"]).succeeded();
    assert!(said.summary("rounds").contains("failed ("), "{}", said.stdout);
    assert!(said.summary("tasks").contains("left"), "{}", said.stdout);
}

#[test]
fn absurd_worlds_are_refused() {
    let refused = |server: &str, more: &[(&str, &str)], parts: &[&str]| {
        let world = world(server, more);
        for command in ["plan", "run"] {
            let said = world.fedreplay(&[command, "scenario.ron", "--out", "out"]).refused(2, parts);
            assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
            assert!(!world.path("out").exists(), "{parts:?}");
        }
    };
    let server = "protocol: Synchronous(clients_per_round: 2)";
    let slow = "device: \"slow\", link: \"home\"";
    refused("protocol: Synchronous(clients_per_round: 2, deadline: \"1ms\")", &[], &["deadline is", "fastest task"]);
    refused("protocol: Buffered(concurrency: 0, buffer_size: 2)", &[], &["at least 1"]);
    refused("protocol: SemiSynchronous(window: \"0s\", concurrency: 2, max_staleness: 1)", &[], &["window is"]);
    refused("protocol: Tiered(tiers: 7, clients_per_round: 2)", &[], &["tiers is 7"]);
    refused(
        "protocol: Buffered(concurrency: 2, buffer_size: 2), selection: Poisson(rate: 0.5)",
        &[],
        &["only with synchronous rounds"],
    );
    refused(
        server,
        &[(slow, "device: \"slow\", link: \"home\", availability: Trace(online: [])")],
        &["availability", "at least one interval"],
    );
    refused(
        server,
        &[(slow, "device: \"slow\", link: \"home\", availability: Diurnal(opens: \"1h\", open_for: \"1d\")")],
        &["a window that closes within its period"],
    );
    refused(
        server,
        &[("speed: \"50 MFLOP/s\"", "speed: \"1 FLOP/s\""), ("local_steps: 2", "local_steps: 2000")],
        &["training time", "at most"],
    );
    refused(server, &[("downlink: \"10 Mbit/s\"", "downlink: \"0 bit/s\"")], &["the network", "zero for good"]);
    refused(server, &[("downlink: \"10 Mbit/s\",", "")], &["server.downlink", "missing"]);
    refused(
        server,
        &[(
            "downlink: \"10 Mbit/s\"",
            "downlink: (initial: \"1 Mbit/s\", changes: [(\"2h\", \"2 Mbit/s\"), (\"1h\", \"1 Mbit/s\")])",
        )],
        &["changes must ascend"],
    );
    refused(
        server,
        &[("evaluation: (", "network: Topology(server: \"s\", regions: {\"a\": \"x\"}, links: []), evaluation: (")],
        &["region", "it must be one of a"],
    );
    refused(
        server,
        &[("evaluation: (", "region_cuts: [(region: \"a\", from: \"1h\", until: \"2h\")], evaluation: (")],
        &["no region `a`"],
    );
    refused(
        server,
        &[(
            "data: (file: \"data.json\",",
            "data: (file: \"data.json\", synthetic: (clients: 1, rows: Fixed(1), tokens_per_row: 1),",
        )],
        &["either `file` or `synthetic`"],
    );
    refused(server, &[("devices: {", "catalog: \"nothing.ron\", devices: {")], &["nothing.ron"]);
}

#[test]
fn a_plan_is_no_run() {
    let world = World::new();
    world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    world.fedreplay(&["replay", "plan"]).refused(2, &["it is a plan"]);
    world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).refused(2, &["already holds a run"]);
    for (detail, tasks, events) in [("rounds", false, false), ("tasks", true, false)] {
        world.fedreplay(&["plan", "scenario.ron", "--out", detail, "--detail", detail]).succeeded();
        let filled = |table| read_table(&world.path(detail), table).expect("a table").num_rows() > 0;
        assert_eq!((filled("tasks"), filled("events"), filled("rounds")), (tasks, events, true), "{detail}");
        world.fedreplay(&["verify", detail]).succeeded();
    }
}
