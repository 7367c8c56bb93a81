//! The scenario that a GPU plays, on a CPU with the tiny base: killed and resumed, it has the digest of an undisturbed run.

use std::fs;
use std::process::Stdio;

use super::support::{World, data, project, rounds_on_disk};

#[test]
fn two_hundred_clients_killed_once_have_one_digest() {
    let world = World::new();
    fs::copy(project("scenarios/gpu/llama-2-7b-200.ron"), world.path("scenario.ron")).expect("the scenario is there");
    world.write("data.json", &small_federation());
    let base = ["--set", "model.folder=base"];
    let whole = world.run("whole", &base).succeeded();
    let digest = whole.summary("digest").to_owned();
    // Killed as soon as its first round is in the ledger.
    let arguments = [&["run", "scenario.ron", "--out", "killed", "--store", "store"][..], &base].concat();
    let mut child = world.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
    while rounds_on_disk(&world.path("killed"), "rounds") == 0 && child.try_wait().expect("a child").is_none() {
        std::thread::yield_now();
    }
    child.kill().expect("it can be killed or has ended");
    child.wait().expect("it ended");
    let manifest = fs::read_to_string(world.path("killed").join("manifest.json")).expect("a manifest");
    assert!(manifest.contains("\"running\""), "the run ended before it was killed");
    let resumed = world.fedreplay(&["resume", "killed", "--store", "store"]).succeeded();
    assert_eq!(resumed.summary("digest"), digest);
}

/// 200 clients with three rows each.
fn small_federation() -> String {
    let all: serde_json::Value = serde_json::from_str(&data(200, 3)).expect("JSON");
    let mut all = all.as_object().expect("an object of clients").clone();
    all.values_mut().for_each(|rows| rows.as_array_mut().expect("rows").truncate(3));
    serde_json::to_string(&all).expect("plain data")
}
