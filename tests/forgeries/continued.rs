//! Table of the commands that go on from a run that was changed: `resume` from one that was stopped, `fork` from a finished one,
//! and `sweep` over its finished cells. None of them takes a result from the run's folder, so each must end in what it gives after
//! the honest run, or refuse.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fedreplay::graph::WorkCounters;
use fedreplay::ledger::{Manifest, RunState};
use fedreplay::run::{ForkPoint, Observer, RoundReport, fork, resume};
use fedreplay::store::Digest;
use fedreplay::{RunOptions, Scenario, run};
use serde_json::{Value, json};

use super::SMALL;
use super::forged_run::{ForgedRun, Redone};
use super::kinds::{OTHER, TENSORS};
use super::support::{Said, World, copy};

use Redone::{All, Files, Nothing};

/// Command that goes on from a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Command {
    Resume,
    Fork,
    Sweep,
}

/// Changes of the run that a command goes on from, with the text of the refusal. `None` where the command must end as after the
/// honest run.
type Change = (Command, &'static str, Redone, Option<&'static str>, fn(&ForgedRun));

use Command::{Fork, Resume, Sweep};

const CHANGED: Option<&str> = Some("it was changed after the run wrote it");

fn none(_: &ForgedRun) {}

fn change_adapter(run: &ForgedRun) {
    let path = run.path("adapters/round-00001").join(TENSORS);
    let mut bytes = fs::read(&path).expect("an adapter");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(path, bytes).expect("a writable folder");
}

fn change_loss(run: &ForgedRun) {
    run.edit_cell("rounds", "train_loss", 0);
}

fn change_scenario(run: &ForgedRun) {
    run.edit_text("scenario.ron", "lr: 0.01", "lr: 0.02");
}

/// Lists the scenario's new hash in the manifest of an unfinished run.
fn list_scenario(run: &ForgedRun) {
    let mut manifest = run.manifest();
    manifest.list_scenario(&run.folder).expect("a readable folder");
    manifest.write(&run.folder).expect("a writable folder");
}

fn change_genesis(run: &ForgedRun) {
    run.edit_manifest(|manifest| manifest.genesis = OTHER);
}

fn change_figures(run: &ForgedRun, edit: fn(&mut Value)) {
    let path = run.path("timing/summary.json");
    let mut figures: Value = serde_json::from_slice(&fs::read(&path).expect("figures")).expect("JSON");
    edit(&mut figures);
    fs::write(path, figures.to_string()).expect("a writable folder");
}

fn changes() -> Vec<Change> {
    vec![
        (Resume, "nothing (control)", Nothing, None, none),
        (Resume, "`rounds`: a loss of round 1", Nothing, None, change_loss),
        (Resume, "adapter of round 1: one bit", Nothing, None, change_adapter),
        (Resume, "adapter of round 1: as that of round 2", Nothing, None, |run| {
            copy(&run.path("adapters/round-00001"), &run.path("adapters/round-00002"));
        }),
        (Resume, "a file that no run has, among the tables", Nothing, None, |run| {
            fs::write(run.path("ledger/rounds/00009-00009.parquet"), "x").expect("a writable folder");
        }),
        (Resume, "a certificate", Nothing, None, |run| {
            fs::write(run.path("certificate.json"), "{}").expect("a writable folder");
        }),
        (Resume, "`scenario.ron`: learning rate", Nothing, CHANGED, change_scenario),
        (Resume, "`scenario.ron`: learning rate", Files, Some("its scenario was changed"), |run| {
            change_scenario(run);
            list_scenario(run);
        }),
        (Resume, "manifest: `seed`, not sealed again", Nothing, CHANGED, |run| {
            run.edit_text("manifest.json", "\"seed\": 1", "\"seed\": 2");
        }),
        (Resume, "manifest: `seed`", Files, None, |run| run.edit_manifest(|manifest| manifest.seed = 2)),
        (Resume, "manifest: `genesis`", Files, Some("genesis"), change_genesis),
        (Resume, "manifest: `grade`", Files, None, |run| run.edit_manifest(|manifest| manifest.grade = "C".into())),
        (Resume, "manifest: `state`", Files, Some("it is finished"), |run| {
            run.edit_manifest(|manifest| manifest.state = RunState::Done);
        }),
        (Fork, "nothing (control)", Nothing, None, none),
        (Fork, "`rounds`: a loss of round 1", All, None, change_loss),
        (Fork, "adapter of round 1: one bit", Files, None, change_adapter),
        (Fork, "`scenario.ron`: learning rate", Files, Some("its hash as a scenario"), change_scenario),
        (Fork, "manifest: hash of the data", Files, Some("the data at"), |run| {
            run.edit_manifest(|manifest| manifest.inputs.get_mut("data").expect("data").hash = OTHER);
        }),
        (Fork, "manifest: `numerics_class`", Files, Some("the machine's arithmetic"), |run| {
            run.edit_manifest(|manifest| manifest.numerics_class += "x");
        }),
        (Sweep, "nothing (control)", Nothing, None, none),
        (Sweep, "`rounds`: a loss of round 1", Nothing, CHANGED, change_loss),
        (Sweep, "`rounds`: a loss of round 1", All, Some("another digest"), change_loss),
        (Sweep, "adapter of round 1: one bit", Nothing, CHANGED, change_adapter),
        (Sweep, "`scenario.ron`: learning rate", Nothing, CHANGED, change_scenario),
        (Sweep, "manifest: `scenario_hash`", Files, Some("a run of another scenario"), |run| {
            run.edit_manifest(|manifest| manifest.scenario_hash = OTHER);
        }),
        (Sweep, "figures in `timing/`", Nothing, Some("it was changed after it was written"), |run| {
            change_figures(run, |figures| figures["loss_after"] = json!(0.5));
        }),
        (Sweep, "figures in `timing/`: those of another run", Nothing, Some("another digest"), |run| {
            let from = run.other.join("timing/summary.json");
            fs::copy(from, run.path("timing/summary.json")).expect("figures");
        }),
    ]
}

/// Stops a run after its first round.
struct StopAfterFirst<'a>(&'a AtomicBool);

impl Observer for StopAfterFirst<'_> {
    fn working(&mut self, _: Arc<WorkCounters>) {}
    fn scheduled(&mut self, _: usize, _: Option<usize>) {}
    fn round(&mut self, _: &RoundReport) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sweep with one cell, whose run is the one that is changed.
const SWEEP: &str = r#"(name: "cells", scenario: "scenario.ron", set: [SETS])"#;

/// Folder of the cell.
const CELL: &str = "0001";

/// Makes the runs and the changes, lets the commands go on, and returns the table as Markdown.
pub fn table() -> String {
    let world = World::new();
    let sets = SMALL.map(str::to_owned);
    let scenario = Scenario::read(&world.path("scenario.ron"), &sets).expect("a scenario");
    let whole = run(&scenario, &RunOptions::new(world.path("whole")), &mut ()).expect("a run").digest;
    let other = Scenario::read(&world.path("scenario.ron"), &[&sets[..], &["training.lr=0.02".to_owned()]].concat());
    run(&other.expect("a scenario"), &RunOptions::new(world.path("other")), &mut ()).expect("a run");
    let stop = AtomicBool::new(false);
    let options = RunOptions { stop: &stop, ..RunOptions::new(world.path("stopped")) };
    run(&scenario, &options, &mut StopAfterFirst(&stop)).expect_err("it was stopped");
    assert_eq!(Manifest::read(&world.path("stopped")).expect("a manifest").state, RunState::Running);
    let forked = going_on(Fork, &world, &world.path("whole")).expect("a fork");
    let set = SMALL.map(|set| format!("\"{set}\"")).join(", ");
    world.write("sweep.ron", &SWEEP.replace("SETS", &set));

    let mut table = "| changed | computed again | command | ends |\n|---|---|---|---|\n".to_owned();
    for (number, (command, what, redone, refusal, change)) in changes().into_iter().enumerate() {
        let (from, expected) = match command {
            Resume => ("stopped", whole),
            Fork => ("whole", forked),
            Sweep => ("whole", whole),
        };
        let folder = world.path(&format!("changed-{number}"));
        copy(&world.path(from), &folder);
        let forged = ForgedRun { folder, other: world.path("other"), task: 0 };
        change(&forged);
        if command != Resume {
            forged.redo(redone);
        }
        let end = match (going_on(command, &world, &forged.folder), refusal) {
            (Ok(digest), None) => {
                assert_eq!(digest, expected, "{command:?} after: {what}");
                "as after the honest run"
            }
            (Err(message), Some(expected)) => {
                assert!(message.contains(expected), "{command:?} after: {what}: {expected}: {message}");
                "refused"
            }
            (end, _) => panic!("{command:?} after: {what}: {end:?}"),
        };
        let command = format!("{command:?}").to_lowercase();
        table += &format!("| {what} | {} | `{command}` | {end} |\n", redone.name());
    }
    table
}

/// Lets a command go on from a run, and returns the digest with which it ends.
fn going_on(command: Command, world: &World, folder: &Path) -> Result<Digest, String> {
    let out = folder.with_extension("next");
    let ended = match command {
        Resume => resume(&RunOptions::new(folder), &[], &mut ()),
        Fork => {
            let point = ForkPoint { at_round: 2, sets: vec!["training.lr=0.03".into()] };
            fork(folder, &point, &RunOptions::new(&out), &mut ())
        }
        Sweep => return swept(world, folder, &out),
    };
    ended.map(|summary| summary.digest).map_err(|error| error.to_string())
}

/// Puts a run in the place of a sweep's cell, and sweeps.
fn swept(world: &World, folder: &Path, out: &Path) -> Result<Digest, String> {
    let arguments = ["sweep", "sweep.ron", "--store", "none", "--json", "--out"];
    copy(folder, &out.join(CELL));
    let said = Said::of(world.command(&arguments).arg(out).output().expect("the binary can be run"));
    if said.code != Some(0) {
        return Err(said.stderr);
    }
    let last: Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["runs"].as_array().map(Vec::len), Some(1), "{last}");
    let digest = last["runs"][0]["summary"]["digest"].as_str().expect("a digest");
    Ok(Digest::from_hex(digest).expect("a digest"))
}
