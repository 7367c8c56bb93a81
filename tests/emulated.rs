//! Portable numerics on processors that are not this one: `fedreplay` under qemu's user emulation gives the digests that
//! this processor gives. It takes minutes and a program that is not always there, so it is asked for: `make portable`.

#[path = "suite/support.rs"]
#[allow(dead_code, reason = "the other tests use the rest of it")]
mod support;

use support::{Said, World};

/// Processors of both makers, without and with what this one may have beyond AVX2.
const PROCESSORS: [&str; 3] = ["Haswell", "Skylake-Client", "EPYC"];

/// What the program would set by starting itself again: the emulator does not follow it there.
const PREPARED: [(&str, &str); 11] = [
    ("FEDREPLAY_PREPARED", "1"),
    ("OMP_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
    ("OMP_DYNAMIC", "FALSE"),
    ("MKL_DYNAMIC", "FALSE"),
    ("OMP_WAIT_POLICY", "PASSIVE"),
    ("CUBLAS_WORKSPACE_CONFIG", ":16:8"),
    ("CUBLASLT_WORKSPACE_SIZE", "1"),
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("MKL_CBWR", "COMPATIBLE"),
];

/// Fields of small runs that between them reach all of training: methods, optimisers, dropout, rounding, preferences.
const RUNS: [&[&str]; 5] = [
    &[],
    &["model.lora.dropout=0.1", "algorithm=FedAdam"],
    &["algorithm=Scaffold", "training.optimizer=Sgd"],
    &["model.precision=Int8", "model.arithmetic=F32"],
    &["training.objective=Dpo", "data.file=pairs.json", "data.test_file=test_pairs.json"],
];

/// Pairs of answers: those of six clients, and those that none of them has.
fn write_pairs(world: &World) {
    let pair = |client: usize, n: usize| {
        serde_json::json!({
            "prompt": format!("Say something of thing {n}."),
            "chosen": format!("Thing {n} is good for {client}."),
            "rejected": format!("I hate number {n}."),
        })
    };
    let rows = |client: usize| serde_json::Value::from_iter((0..8).map(|n| pair(client, n)));
    let clients: serde_json::Map<_, _> = (0..6).map(|client| (format!("user-{client}"), rows(client))).collect();
    world.write("pairs.json", &serde_json::Value::Object(clients).to_string());
    world.write("test_pairs.json", &rows(6).to_string());
}

fn run(world: &World, out: &str, sets: &[&str], program: &[&str]) -> Said {
    let mut command = world.command_of(program[0]);
    command.args(&program[1..]).args(["run", "scenario.ron", "--out", out, "--store", "none", "--workers", "1"]);
    let common =
        ["rounds=1", "training.local_steps=1", "execution.numerics=Portable", "evaluation.local_baseline=false"];
    command.args(common.iter().chain(sets).flat_map(|set| ["--set", set]));
    command.envs(PREPARED);
    Said::of(command.output().unwrap_or_else(|error| panic!("{} cannot be run: {error}", program[0])))
}

#[test]
fn one_digest_on_this_processor_and_on_emulated_ones_of_both_makers() {
    let binary = env!("CARGO_BIN_EXE_fedreplay");
    for (number, sets) in RUNS.iter().enumerate() {
        let world = World::new();
        write_pairs(&world);
        let own = run(&world, "own", sets, &[binary]).succeeded();
        for processor in PROCESSORS {
            let emulated = run(&world, processor, sets, &["qemu-x86_64", "-cpu", processor, binary]).succeeded();
            println!("run {number}, {processor}: {}", emulated.summary("digest"));
            assert_eq!(emulated.summary("digest"), own.summary("digest"), "{sets:?} on {processor}");
        }
    }
}
