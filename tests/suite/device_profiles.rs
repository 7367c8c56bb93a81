//! Device classes with measured profiles: times and memory of their tasks, and profiles that are refused.

use std::fs;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use fedreplay::ledger::read_table;
use fedreplay::profile::{DeviceProfile, Machine, MeasuredStep, Measurements, Workload};

use super::support::World;

/// Rows, length, seconds and megabytes of the profile's cells at rank 4.
const CELLS: [(u32, u32, f64, u64); 4] =
    [(1, 50, 0.010, 100), (1, 150, 0.030, 200), (4, 50, 0.040, 220), (4, 150, 0.100, 460)];

/// Returns measured steps of the small world's model, with optimizer steps of 5 ms.
pub fn measured() -> Measurements {
    let model = fedreplay_sim::ModelShape {
        layers: 4,
        hidden: 128,
        intermediate: 352,
        heads: 4,
        kv_heads: 4,
        head_dim: 32,
        vocabulary: 1024,
        ties_embeddings: true,
    };
    let workload = Workload {
        model,
        targets: vec!["v_proj".into(), "q_proj".into()],
        precision: "F32".into(),
        recomputation: false,
        optimizer: "AdamW".into(),
        objective: "Sft".into(),
    };
    let machine = Machine {
        device: "none".into(),
        threads: 1,
        workers: 1,
        versions: "none".into(),
        measured_on: "2026-11-30".into(),
        busy: false,
    };
    let steps = CELLS.map(|(rows, length, seconds, megabytes)| MeasuredStep {
        rows,
        length,
        rank: 4,
        micro_batch_seconds: seconds,
        optimizer_seconds: Some(0.005),
        peak_memory_bytes: Some(megabytes * 1_000_000),
        held_out: false,
    });
    Measurements { workload, machine, steps: steps.into() }
}

/// Writes the profile of these steps.
pub fn write_profile(file: &Path) {
    DeviceProfile::fit(&measured()).expect("a grid").write(file).expect("a writable folder");
}

/// The small world with clients of 10 rows of `tokens` tokens, all of them on a device with a profile.
fn world(tokens: u32) -> World {
    let world = profiled();
    let synthetic = format!("synthetic: (clients: 6, rows: Fixed(10), tokens_per_row: {tokens})");
    world.edit("scenario.ron", "file: \"data.json\", test_file: \"test.json\"", &synthetic);
    world
}

fn profiled() -> World {
    let world = World::new();
    write_profile(&world.path("this.ron"));
    world.edit("scenario.ron", "speed: \"1 GFLOP/s\", jitter: 0.2", "profile: \"this.ron\"");
    world.edit("scenario.ron", "device: \"slow\"", "device: \"quick\"");
    world.edit("scenario.ron", "batch_size: 2", "batch_size: 2, gradient_accumulation: 3");
    world.edit("scenario.ron", ", dropout: (during_training: 0.3)", "");
    world
}

fn plan(world: &World, out: &str) -> RecordBatch {
    world.fedreplay(&["plan", "scenario.ron", "--detail", "tasks", "--out", out]).succeeded();
    read_table(&world.path(out), "population").expect("a table")
}

fn column(rows: &RecordBatch, name: &str) -> Vec<u64> {
    rows[name].as_primitive::<UInt64Type>().values().to_vec()
}

fn training_times(world: &World, out: &str) -> Vec<i64> {
    let tasks = read_table(&world.path(out), "tasks").expect("a table");
    tasks["training_ns"].as_primitive::<Int64Type>().values().to_vec()
}

/// By hand: 2 rows of 100 tokens are a third of the way from 1 to 4 rows, and half of it from 50 to 150 tokens. 1 row takes 20 ms and 150
/// MB there, 4 rows 70 ms and 340 MB, so 2 take 20 + 50 / 3 ms and 150 + 190 / 3 MB. A task has 2 steps of 3 micro-batches and an
/// optimizer step of 5 ms: 2 (3 (20 + 50 / 3) + 5) = 230 ms.
#[test]
fn a_task_takes_the_interpolated_time_and_memory() {
    let world = world(100);
    let population = plan(&world, "plan");
    let times = training_times(&world, "plan");
    assert!(!times.is_empty() && times.iter().all(|&time| time == 230_000_000), "{times:?}");
    assert_eq!(column(&population, "task_memory_bytes"), [213_333_334; 6]);
    // The speed at which its operations take this time.
    let flops = column(&population, "task_flops")[0];
    assert_eq!(column(&population, "flops_per_second"), [flops * 100 / 23; 6]);
    let said = world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial"]).succeeded();
    assert!(said.stdout.contains("0.23 s to 0.23 s of training on `quick`, by its profile"), "{}", said.stdout);
    // Slowdown is a factor on the measured time.
    world.edit("scenario.ron", "profile: \"this.ron\"", "profile: \"this.ron\", slowdown: [2]");
    plan(&world, "slow");
    assert!(training_times(&world, "slow").iter().all(|&time| time == 460_000_000));
}

#[test]
fn shapes_beyond_the_grid_are_refused_unless_extrapolated() {
    let world = world(160);
    let parts = [
        "population.devices.quick.profile: client \"client-0\" trains on 2 rows of 160 tokens on average at rank 4",
        "the profile has 1 to 4 rows of 50 to 150 tokens at rank 4",
        "extrapolate",
    ];
    world.fedreplay(&["plan", "scenario.ron"]).refused(2, &parts);
    world.edit("scenario.ron", "profile: \"this.ron\"", "profile: \"this.ron\", extrapolate: true");
    let population = plan(&world, "beyond");
    // By the terms of the four cells it is longer than the longest measured one: 30 + 70 / 3 ms for each micro-batch.
    assert!(training_times(&world, "beyond").iter().all(|&time| time > 2 * (3 * 53_333_333 + 5_000_000)));
    // Memory is that of the program's forecast, as for a device with a speed.
    world.edit("scenario.ron", "profile: \"this.ron\", extrapolate: true", "speed: \"1 GFLOP/s\"");
    let forecast = plan(&world, "forecast");
    assert_eq!(column(&population, "task_memory_bytes"), column(&forecast, "task_memory_bytes"));
}

#[test]
fn a_speed_in_a_trace_replaces_the_profile() {
    let world = world(100);
    world.edit("scenario.ron", "mix: [", "trace: (clients: \"clients.csv\"), mix: [");
    world.write("clients.csv", "client,flops_per_second\n0,1000000000\n1,\n2,\n3,\n4,\n5,\n");
    let population = plan(&world, "plan");
    let speeds = column(&population, "flops_per_second");
    let flops = column(&population, "task_flops")[0];
    assert_eq!(speeds[0], 1_000_000_000);
    assert_eq!(speeds[1..], [flops * 100 / 23; 5]);
    let memory = column(&population, "task_memory_bytes");
    assert!(memory[0] != memory[1] && memory[1] == 213_333_334, "{memory:?}");
}

#[test]
fn a_profile_of_something_else_is_refused_by_its_first_field() {
    let refused = |set: &str, part: &str| {
        let world = world(100);
        let mut arguments = vec!["plan", "scenario.ron"];
        arguments.extend(set.split("; ").flat_map(|set| ["--set", set]));
        world.fedreplay(&arguments).refused(2, &["population.devices.quick.profile", part]);
    };
    refused("model.precision=Bf16", "precision is `F32` in the profile, and `Bf16` in the scenario");
    refused("model.precision=Nf4", "and `Nf4` in the scenario");
    refused("model.precision=Nf4; model.arithmetic=F32", "and `Nf4 in F32` in the scenario");
    refused("model.lora.target_modules=[\"q_proj\"]", "targets is `q_proj,v_proj` in the profile, and `q_proj` in the");
    refused("training.recomputation=true", "recomputation is `false`");
    refused("training.optimizer=Sgd(momentum: 0.9)", "optimizer is `AdamW` in the profile, and `Sgd with momentum`");
    refused("training.objective=Dpo(beta: 0.1)", "objective is `Sft`");
    refused("federated_lora=FedSb(init_samples: 4)", "Fed-SB trains a matrix between the factors");
    refused("model.lora.rank=8", "at rank 8");
    refused("training.batch_size=5", "5 rows of 100 tokens");
}

#[test]
fn devices_have_a_speed_or_a_profile() {
    let refused = |device: &str, parts: &[&str]| {
        let world = world(100);
        world.edit("scenario.ron", "profile: \"this.ron\"", device);
        world.fedreplay(&["plan", "scenario.ron"]).refused(2, parts);
    };
    refused("jitter: 0.1", &["population.devices.quick: it needs `speed` or `profile`"]);
    refused("speed: \"1 GFLOP/s\", profile: \"this.ron\"", &["devices.quick.profile: it replaces `speed`"]);
    refused("speed: \"1 GFLOP/s\", extrapolate: true", &["devices.quick.extrapolate"]);
    refused("profile: \"this.ron\", memory_bandwidth: \"1 GB/s\"", &["devices.quick.memory_bandwidth"]);
    refused("profile: \"none.ron\"", &["none.ron"]);
    let world = world(100);
    world.edit("this.ron", "seconds: 0.01,", "seconds: NaN,");
    world.fedreplay(&["plan", "scenario.ron"]).refused(2, &["this.ron", "cells.0.seconds is NaN"]);
}

#[test]
fn a_run_records_the_profile_that_it_read() {
    let world = profiled();
    world.edit("scenario.ron", "evaluation: (local_baseline: true)", "evaluation: (every: 1000)");
    plan(&world, "planned");
    world.run("trained", &[]).succeeded();
    assert_eq!(training_times(&world, "planned"), training_times(&world, "trained"));
    world.fedreplay(&["replay", "trained"]).succeeded();
    let text = fs::read_to_string(world.path("this.ron")).expect("a profile");
    fs::write(world.path("this.ron"), text + "\n").expect("a writable folder");
    let said = world.fedreplay(&["replay", "trained"]).refused(3, &[]);
    assert!(said.stdout.contains("device profile quick"), "{}", said.stdout);
}
