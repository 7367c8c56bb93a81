//! Runs that are killed, interrupted or disturbed, and how they go on.

use std::path::Path;
use std::process::{Child, Stdio};

use super::support::{Said, World};

/// A run that is long enough to be caught in the middle.
const LONG: [&str; 9] =
    ["run", "scenario.ron", "--out", "run", "--store", "store", "--set", "rounds=30", "--workers=1"];

fn begin(world: &World, arguments: &[&str]) -> Child {
    world.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be run")
}

/// Waits until the run has this file, or is over.
fn until(child: &mut Child, file: &Path) {
    while !file.exists() {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before {}", file.display());
        std::thread::yield_now();
    }
}

fn finish(child: Child) -> Said {
    Said::of(child.wait_with_output().expect("a child"))
}

fn undisturbed_digest(world: &World) -> String {
    let said = world.run("undisturbed", &["--set", "rounds=30"]).succeeded();
    said.summary("digest").to_owned()
}

#[test]
fn a_killed_run_is_not_whole_and_resumes_to_the_same_digest() {
    let world = World::new();
    for (kill, round) in ["00001-00001.parquet", "00007-00007.parquet", "00019-00019.parquet"].iter().enumerate() {
        let mut child = if kill == 0 {
            begin(&world, &LONG)
        } else {
            begin(&world, &["resume", "run", "--store", "store", "--workers=1"])
        };
        // A resumed run writes its tables again, so the file must be one of this process.
        let file = world.path("run/ledger/rounds").join(round);
        until(&mut child, &file);
        child.kill().expect("it is still running");
        assert_eq!(finish(child).code, None);
        let said = world.fedreplay(&["verify", "run"]);
        assert_eq!(said.code, Some(3), "{}", said.stdout);
        assert!(said.stdout.contains("the run is not finished"), "{}", said.stdout);
    }
    let rounds = fedreplay::ledger::read_table(&world.path("run"), "rounds").expect("finished rounds can be read");
    assert!(rounds.num_rows() >= 19);
    let resumed = world.fedreplay(&["resume", "run", "--store", "store"]).succeeded();
    assert_eq!(resumed.summary("digest"), undisturbed_digest(&world));
    world.fedreplay(&["verify", "run"]).succeeded();
    world.fedreplay(&["resume", "run", "--store", "store"]).refused(2, &["nothing to resume"]);
}

#[test]
fn an_interrupted_run_says_so_and_resumes() {
    let world = World::new();
    let mut child = begin(&world, &LONG);
    until(&mut child, &world.path("run/ledger/rounds/00002-00002.parquet"));
    let signalled = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signalled.expect("kill can be run").success());
    finish(child).refused(130, &["interrupted; `fedreplay resume` continues the run"]);
    let resumed = world.fedreplay(&["resume", "run", "--store", "store"]).succeeded();
    assert_eq!(resumed.summary("digest"), undisturbed_digest(&world));
}

#[test]
fn a_second_process_is_refused() {
    let world = World::new();
    let mut child = begin(&world, &LONG);
    until(&mut child, &world.path("run/ledger/rounds/00001-00001.parquet"));
    world.fedreplay(&["resume", "run", "--store", "store"]).refused(2, &["another process is running there"]);
    world.fedreplay(&LONG).refused(2, &["already holds a run"]);
    child.kill().expect("it is still running");
    finish(child);
}

#[test]
fn a_run_does_not_resume_on_other_inputs() {
    let world = World::new();
    let mut child = begin(&world, &LONG);
    until(&mut child, &world.path("run/ledger/rounds/00001-00001.parquet"));
    child.kill().expect("it is still running");
    finish(child);
    world.edit("data.json", "It is 4 for user 3.", "It is 5 for user 3.");
    world
        .fedreplay(&["resume", "run", "--store", "store"])
        .refused(2, &["the data at", "is not what the run was made from"]);
}

#[test]
fn a_folder_that_was_killed_before_its_manifest_can_be_used() {
    let world = World::new();
    std::fs::create_dir(world.path("run")).expect("a writable folder");
    world.write("run/lock", "");
    world.write("run/.scenario.ron.1.partial", "(");
    world.run("run", &[]).succeeded();
    world.fedreplay(&["verify", "run"]).succeeded();
}

#[test]
fn a_replay_leaves_the_users_files_alone() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    std::fs::create_dir_all(world.path("mine/replay")).expect("a writable folder");
    world.write("mine/replay/notes.txt", "mine");
    world.fedreplay(&["replay", "run", "--scratch", "mine"]).succeeded();
    let left = super::support::files(&world.path("mine"));
    assert_eq!(left, [("replay/notes.txt".to_owned(), b"mine".to_vec())]);
}
