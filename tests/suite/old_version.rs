//! What version 0.1.0 wrote: a run with evaluations and saved adapters, a run that was killed, and the store of both. All of it
//! is shown, verified and exported; only what would compute it again is refused, with the version that can.

use std::fs;
use std::path::Path;

use arrow::array::AsArray;
use fedreplay::ledger::{Manifest, read_table};
use fedreplay::store::Store;

use super::record::trained;
use super::support::{World, files, project};

/// Digest of the run, as 0.1.0 printed it.
const DIGEST: &str = "ff0b9109042b5b37aceb6930f1a5e0e6332bd26d9d78ac81c3709bd38cd73a9d";

/// Loss of the test rows after round 2, as 0.1.0 printed it.
const LOSS: &str = "5.7869";

/// What a refusal names.
const BY_NAME: [&str; 2] = ["fedreplay 0.1.0 made it", "use fedreplay 0.1.0"];

/// Returns a folder with what 0.1.0 left in its own, and the base model.
fn old_world() -> World {
    let world = World::new();
    for (name, bytes) in files(&project("fixtures/version-0.1")) {
        let path = world.path(&name);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a writable folder");
        fs::write(path, bytes).expect("a writable folder");
    }
    world
}

/// Returns the files of a run or a store, without the locks of processes that looked at it.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = files(folder);
    found.retain(|(name, _)| name != "gate" && !name.starts_with("sessions/"));
    found
}

#[test]
fn a_run_of_0_1_is_shown_verified_and_exported() {
    let world = old_world();
    let before = files(&world.path("run"));
    assert_eq!(Manifest::read(&world.path("run")).expect("a manifest").fedreplay_version, "0.1.0");
    let whole = format!("whole: 13 files, 2 rounds, digest {DIGEST}\n");
    assert_eq!(world.fedreplay(&["verify", "run"]).succeeded().stdout, whole);
    let claimed = ["verify", "run", "--certificate", "run/certificate.json", "--digest", DIGEST];
    assert_eq!(world.fedreplay(&claimed).succeeded().stdout, whole);

    let shown = world.fedreplay(&["show", "run"]).succeeded().stdout;
    assert!(shown.contains(LOSS) && shown.contains("laptop"), "{shown}");
    let listed = world.fedreplay(&["ls", "."]).succeeded().stdout;
    for state in ["interrupted   1/400", "done            2/2"] {
        assert!(listed.contains(state), "{listed}");
    }
    world.fedreplay(&["report", "run", "--out", "report.html"]).succeeded();
    assert!(fs::read_to_string(world.path("report.html")).expect("a page").contains(&DIGEST[..12]));
    for (form, out) in [
        ("csv", "csv"),
        ("peft", "peft"),
        ("perfetto", "trace.json"),
        ("tensorboard", "board"),
        ("wandb-offline-jsonl", "history.jsonl"),
    ] {
        world.fedreplay(&["export", "run", "--to", form, "--out", out]).succeeded();
    }
    let losses = fs::read_to_string(world.path("csv/evaluations.csv")).expect("a table");
    assert_eq!(losses.lines().count() - 1, read_table(&world.path("run"), "evaluations").expect("a table").num_rows());
    let adapter = fs::read(world.path("peft/adapter_model.safetensors")).expect("an adapter");
    assert!(adapter == fs::read(world.path("run/adapters/round-00002/adapter_model.safetensors")).expect("an adapter"));
    assert!(files(&world.path("run")) == before, "the run was changed");
}

#[test]
fn a_change_of_a_run_of_0_1_is_found() {
    let world = old_world();
    world.edit("run/scenario.ron", "lr: 0.01", "lr: 0.02");
    let said = world.fedreplay(&["verify", "run"]);
    assert_eq!(said.code, Some(3));
    assert!(said.stdout.contains("scenario.ron: its hash is"), "{}", said.stdout);
    assert!(said.stdout.contains("its hash as a scenario is"), "{}", said.stdout);
    world.fedreplay(&["verify", "killed"]).refused(3, &[]);
}

#[test]
fn a_run_of_0_1_is_computed_again_by_0_1_alone() {
    let world = old_world();
    let before = [contents(&world.path("run")), contents(&world.path("killed"))];
    for command in [
        &["replay", "run"][..],
        &["replay", "run", "--round", "2"],
        &["replay", "run", "--client", "0"],
        &["resume", "killed"],
        &["fork", "run", "--at-round", "2", "--set", "training.lr=0.02", "--out", "forked"],
    ] {
        world.fedreplay(&[command, &["--store", "none"]].concat()).refused(2, &BY_NAME);
    }
    assert!(before == [contents(&world.path("run")), contents(&world.path("killed"))], "a refused command wrote");
    assert!(!world.path("forked").exists());
}

#[test]
fn a_scenario_of_0_1_loads_as_written_and_as_resolved() {
    let world = old_world();
    fs::copy(world.path("run/scenario.ron"), world.path("resolved.ron")).expect("a scenario");
    for (scenario, out) in [("scenario.ron", "written"), ("resolved.ron", "resolved")] {
        world.fedreplay(&["run", scenario, "--out", out, "--store", "none"]).succeeded();
    }
    let hash = |run: &str| Manifest::read(&world.path(run)).expect("a manifest").scenario_hash;
    assert_eq!([hash("written"), hash("resolved")], [hash("run"); 2]);
    // The schedule is that of 0.1.0, to the byte; the bits of training are not.
    for table in ["population", "events"] {
        let rows = |run: &str| read_table(&world.path(run), table).expect("a table");
        assert_eq!(rows("written").num_rows(), rows("run").num_rows());
        assert_eq!(rows("written").columns(), rows("run").columns(), "{table}");
    }
}

#[test]
fn a_store_of_0_1_keeps_what_its_runs_need_and_serves_no_other_version() {
    let world = old_world();
    let old = contents(&world.path("store"));
    let verified = world.fedreplay(&["store", "verify", "--store", "store"]).succeeded().stdout;
    assert_eq!(verified, "whole: 25 results\n");
    // The registered runs are on a disk that is not there, so nobody knows what they need.
    let gc = ["store", "gc", "--store", "store", "--max-size", "0B"];
    world.fedreplay(&gc).refused(2, &["/tmp/v01/"]);
    assert!(contents(&world.path("store")) == old, "the store was trimmed");

    let forget = ["--forget", "/tmp/v01/killed", "--forget", "/tmp/v01/run"];
    world.fedreplay(&[&["store", "gc", "--store", "store"], &forget[..]].concat()).succeeded();
    for run in ["killed", "run"] {
        Store::open(&world.path("store")).and_then(|store| store.register(&world.path(run))).expect("a writable store");
    }
    world.fedreplay(&["run", "scenario.ron", "--out", "new", "--store", "store"]).succeeded();
    assert_eq!(trained(&world.path("new")), 4, "a result of 0.1.0 was used");
    world.fedreplay(&gc).succeeded();
    let now = contents(&world.path("store"));
    let lineage = read_table(&world.path("run"), "lineage").expect("a table");
    let mut needed = 0;
    for key in lineage["key"].as_string::<i32>().iter().flatten() {
        let result = old.iter().find(|(name, _)| name.starts_with("results/") && name.ends_with(key));
        if let Some(result) = result {
            assert!(now.contains(result), "the result {key}, which the run of 0.1.0 needs, was removed or changed");
            needed += 1;
            let content = String::from_utf8(result.1.clone()).expect("a hash");
            assert!(now.iter().any(|(name, _)| name.ends_with(content.trim())), "the content of {key} was removed");
        }
    }
    assert_eq!(needed, 13, "results of the run in the store of 0.1.0");
}
