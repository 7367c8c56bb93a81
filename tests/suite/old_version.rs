//! What version 0.1.0 wrote: a run with evaluations and saved adapters, a run that was killed, and the store of both. All of it
//! is shown, verified and exported; only what would compute it again is refused, with the version that can.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use arrow::array::AsArray;
use fedreplay::ledger::{Manifest, RunState, read_table};
use fedreplay::store::Store;

use super::record::trained;
use super::signed::{LAB, LAB_PUBLIC};
use super::support::{World, copy, files, project};

/// Digest of the run, as 0.1.0 printed it.
const DIGEST: &str = "ff0b9109042b5b37aceb6930f1a5e0e6332bd26d9d78ac81c3709bd38cd73a9d";

/// Loss of the test rows after round 2, as 0.1.0 printed it.
const LOSS: &str = "5.7869";

/// What a refusal names.
const BY_NAME: [&str; 2] = ["fedreplay 0.1.0 made it", "use fedreplay 0.1.0"];

/// Returns a folder with what 0.1.0 left in its own, and the base model.
fn old_world() -> World {
    let world = World::new();
    copy(&project("fixtures/version-0.1"), &world.path(""));
    world
}

/// Names the folder of the world as the one that the scenario of the run is in.
fn move_inputs(world: &World) {
    let mut manifest = Manifest::read(&world.path("run")).expect("a manifest");
    manifest.scenario_folder = world.path("");
    manifest.inputs.get_mut("base_model").expect("a base model").path = world.path("base");
    manifest.write(&world.path("run")).expect("a writable folder");
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
fn a_run_of_0_1_is_followed_compared_signed_and_evaluated() {
    let world = old_world();
    assert!(world.fedreplay(&["tail", "run"]).succeeded().stdout.contains(DIGEST));
    assert!(world.fedreplay(&["tail", "killed"]).stdout.contains("interrupted after 1 of 400 rounds"));
    assert_eq!(world.fedreplay(&["diff", "run", "run"]).succeeded().stdout, "same\n");
    let different = world.fedreplay(&["diff", "run", "killed", "--store", "none"]);
    assert_eq!(different.code, Some(3));
    assert!(different.stdout.contains("rounds: 2 against 400"), "{}", different.stdout);
    world.fedreplay(&["report", "run", "killed", "--out", "both.html"]).succeeded();
    world.fedreplay(&["export", "killed", "--to", "csv", "--out", "csv"]).succeeded();
    world.fedreplay(&["export", "killed", "--to", "peft", "--store", "store", "--out", "peft"]).succeeded();
    world.write("key.pem", LAB);
    world.write("key.pub", LAB_PUBLIC);
    world.fedreplay(&["certify", "run", "--key", "key.pem"]).succeeded();
    world.fedreplay(&["verify", "run", "--signed-by", "key.pub"]).succeeded();

    move_inputs(&world);
    let losses = world.fedreplay(&["eval", "run", "--store", "none"]).succeeded().stdout;
    assert!(losses.contains(&LOSS[..5]), "{losses}");
    world.fedreplay(&["export", "run", "--to", "peft", "--merged", "--store", "none", "--out", "merged"]).succeeded();
    assert!(world.path("merged/model.safetensors").exists());
}

#[test]
fn a_sweep_and_a_plan_of_0_1_are_continued_by_0_1_alone() {
    let world = old_world();
    world.write("sweep.ron", "(name: \"cells\", scenario: \"scenario.ron\")");
    copy(&world.path("run"), &world.path("sweep/0001"));
    world.fedreplay(&["sweep", "sweep.ron", "--out", "sweep", "--store", "none"]).refused(2, &BY_NAME);
    world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    let mut manifest = Manifest::read(&world.path("plan")).expect("a manifest");
    manifest.fedreplay_version = "0.1.0".into();
    manifest.state = RunState::Running;
    manifest.digest = None;
    manifest.list_scenario(&world.path("plan")).expect("a scenario");
    manifest.write(&world.path("plan")).expect("a writable folder");
    let before = contents(&world.path("plan"));
    world.fedreplay(&["resume", "plan", "--store", "none"]).refused(2, &BY_NAME);
    assert!(contents(&world.path("plan")) == before, "a refused command wrote");
}

/// Returns the fields and variants in the reference of scenarios, each with its section and its type.
fn fields(reference: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in reference.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = title.trim_start_matches('#').trim();
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let name = cells[0].strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
        if let Some(name) = name.filter(|name| !name.contains('`')) {
            let kind = if cells.len() > 2 { without_links(cells[1]) } else { String::new() };
            found.insert(format!("{section}\t{name}\t{kind}"));
        }
    }
    found
}

/// Returns a text of Markdown with the names of its links alone.
fn without_links(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let (name, after) = link.split_once("](").expect("a link");
        shown += before;
        shown += name;
        rest = after.split_once(')').expect("a link").1;
    }
    shown + rest
}

#[test]
fn every_field_and_variant_of_a_scenario_of_0_1_is_there_with_its_type() {
    let reference = World::new().fedreplay(&["generate", "scenario-reference"]).succeeded().stdout;
    let now = fields(&reference);
    let then = fs::read_to_string(project("fixtures/version-0.1/fields.txt")).expect("the fixture");
    assert!(then.lines().count() > 300, "{then}");
    // A field that may be left out today reads all that it read before.
    let is_there = |field: &str| now.contains(field) || now.contains(&format!("{field}, or None"));
    let gone: Vec<&str> = then.lines().filter(|&field| !is_there(field)).collect();
    assert!(gone.is_empty(), "renamed without an alias, or removed: {gone:#?}");
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
