//! Large plans: what reads the tables of a million clients holds a part of them.

use std::process::Stdio;

use super::execution::peak_bytes;
use super::support::{World, project};

/// [byte] -- Limit on the data of a process. The program itself takes half of it; the population of this plan, read as a whole,
/// takes 300 MB more.
const DATA: u64 = 220 << 20;

const CLIENTS: &str = "data.synthetic.clients=1000000";

#[test]
fn a_plan_of_a_million_clients_is_read_in_little_memory() {
    let world = World::new();
    let file = project("scenarios/system/million-clients.ron").display().to_string();
    let plan = ["plan", &file, "--set", "rounds=3", "--set", CLIENTS, "--out", "plan"];
    world.fedreplay(&plan).succeeded();
    for command in [
        "verify plan",
        "show plan",
        "report plan --out report.html",
        "export plan --to csv --out csv",
        "export plan --to tensorboard --out curves",
        "export plan --to perfetto --out trace.json",
    ] {
        let mut limited = world.command_of("prlimit");
        limited.args([&format!("--data={DATA}"), env!("CARGO_BIN_EXE_fedreplay")]).args(command.split(' '));
        let said = limited.output().expect("prlimit is there");
        assert!(said.status.success(), "{command}: {}", String::from_utf8_lossy(&said.stderr));
    }
    let rows = std::fs::read_to_string(world.path("csv/population.csv")).expect("a table").lines().count();
    assert_eq!(rows, 1_000_001);
}

#[test]
fn the_memory_of_a_plan_does_not_grow_with_its_rounds() {
    let world = World::new();
    let peak = |rounds: u32| {
        let rounds = format!("rounds={rounds}");
        let out = format!("plan-{rounds}");
        let mut plan = world.command(&["plan", "scenario.ron", "--set", &rounds, "--out", &out, "--detail", "tasks"]);
        peak_bytes(&mut plan.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run"))
    };
    let few = peak(1_000);
    let many = peak(50_000);
    // Blocks of rows that are not full yet, and eight bytes for each round's duration.
    assert!(many < few + (48 << 20), "{few} B for 1,000 rounds, {many} B for 50,000");
}
