//! Runs that are killed, interrupted or disturbed, and how they go on.

use std::path::Path;
use std::process::{Child, Stdio};

use super::support::{Said, World, orders, rounds_on_disk, stored, until_rounds};

/// A run that is long enough to be caught in the middle.
const LONG: [&str; 9] =
    ["run", "scenario.ron", "--out", "run", "--store", "store", "--set", "rounds=30", "--workers=1"];

fn begin(world: &World, arguments: &[&str]) -> Child {
    world.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be run")
}

/// Waits until the run has this file, or is over.
pub fn until(child: &mut Child, file: &Path) {
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
    for (kill, round) in [1, 7, 19].into_iter().enumerate() {
        let mut child = if kill == 0 {
            begin(&world, &LONG)
        } else {
            begin(&world, &["resume", "run", "--store", "store", "--workers=1"])
        };
        // A resumed run writes its tables again, so the round must be one of this process.
        until_rounds(&mut child, &world.path("run"), "rounds", round);
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
fn a_killed_plan_is_played_again() {
    let world = World::new();
    let plan = |out| ["plan", "scenario.ron", "--detail", "tasks", "--set", "rounds=40000", "--out", out];
    let mut child = begin(&world, &plan("killed"));
    until(&mut child, &world.path("killed/ledger/population/00000-00000.parquet"));
    child.kill().expect("it is still running");
    finish(child);
    world.fedreplay(&["resume", "killed", "--set", "seed=2"]).refused(2, &["scenario was changed"]);
    let resumed = world.fedreplay(&["resume", "killed"]).succeeded();
    let whole = world.fedreplay(&plan("whole")).succeeded();
    assert_eq!(resumed.summary("digest"), whole.summary("digest"));
    assert!(super::support::hashed(&world.path("killed")) == super::support::hashed(&world.path("whole")));
    world.fedreplay(&["verify", "killed"]).succeeded();
    world.fedreplay(&["resume", "killed"]).refused(2, &["finished"]);
}

#[test]
fn an_interrupted_run_says_so_and_resumes_from_all_that_it_computed() {
    let world = World::new();
    for (asked, round, code) in [("-INT", 2, 130), ("-TERM", 9, 143)] {
        let resume = ["resume", "run", "--store", "store", "--workers=1"];
        let mut child = begin(&world, if asked == "-INT" { &LONG[..] } else { &resume });
        until_rounds(&mut child, &world.path("run"), "rounds", round);
        signal(&child, asked);
        finish(child).refused(code, &["interrupted", "; `fedreplay resume` continues a run that has begun"]);
    }
    let kept = stored(&world.path("store"));
    let resumed = world.fedreplay(&["resume", "run", "--store", "store"]).succeeded();
    assert_eq!(resumed.summary("digest"), undisturbed_digest(&world));
    let again = orders(&world.path("run")).into_iter().find(|(key, from_store)| !from_store && kept.contains(key));
    assert_eq!(again, None, "it was computed again");
}

/// Sends a signal to a process.
fn signal(child: &Child, signal: &str) {
    let signalled = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(signalled.expect("kill can be run").success());
}

#[test]
fn a_process_in_the_middle_of_something_ends_when_it_is_asked_to_and_says_how_to_go_on() {
    let world = World::new();
    let pipe = world.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    let go_on = "error: interrupted, and what was being computed is given up; `fedreplay resume` continues a run";
    for (command, asked, code, said) in [
        (
            &["scenario", "check", "pipe"][..],
            "-TERM",
            143,
            "error: interrupted, and what was being computed is given up\n",
        ),
        (&["import", "pipe"], "-INT", 130, "error: interrupted\n"),
        (&["run", "pipe", "--out", "run"], "-INT", 130, go_on),
    ] {
        let mut child = begin(&world, command);
        // Opening the other end waits until the process has opened this one. Nothing comes, so it can only be given up.
        let writer = std::fs::OpenOptions::new().write(true).open(&pipe).expect("a pipe");
        signal(&child, asked);
        let ended = child.wait().expect("a child").code();
        assert_eq!(ended, Some(code), "{command:?}");
        drop(writer);
        let stderr = finish(child).stderr;
        assert!(stderr.contains(said) && stderr.lines().count() == 1, "{command:?}: {stderr}");
    }
}

#[test]
fn a_replay_that_is_asked_to_stop_leaves_nothing_next_to_the_run() {
    let world = World::new();
    world.run("run", &["--set", "rounds=40", "--set", "evaluation.local_baseline=false"]).succeeded();
    let mut child = begin(&world, &["replay", "run", "--workers", "1"]);
    let is_temporary = || {
        let entries = std::fs::read_dir(world.path("")).expect("a folder").map(|entry| entry.expect("an entry"));
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".run.replay.")).count() > 0
    };
    while !is_temporary() {
        assert!(child.try_wait().expect("a child").is_none(), "the replay ended before it began");
    }
    signal(&child, "-INT");
    finish(child).refused(130, &["interrupted"]);
    assert!(!is_temporary());
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let world = World::new();
    let pipe = world.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    let child = begin(&world, &["scenario", "check", "pipe"]);
    let writer = std::fs::OpenOptions::new().write(true).open(&pipe).expect("a pipe");
    signal(&child, "-INT");
    signal(&child, "-TERM");
    let said = finish(child);
    // The first of the two decides the code.
    assert!(matches!(said.code, Some(130 | 143)), "{:?}", said.code);
    // That is said when the time of the first signal is over.
    assert!(!said.stderr.contains("given up"), "{}", said.stderr);
    drop(writer);
}

#[test]
fn a_run_under_nohup_goes_on_when_its_terminal_is_closed() {
    let world = World::new();
    let mut command = world.command_of("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_fedreplay")]).args(LONG);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    until_rounds(&mut child, &world.path("run"), "rounds", 2);
    signal(&child, "-HUP");
    finish(child).succeeded();
    world.fedreplay(&["verify", "run"]).succeeded();
}

#[test]
fn of_two_processes_that_begin_one_run_the_second_is_refused() {
    let world = World::new();
    for repeat in 0..3 {
        let out = format!("run-{repeat}");
        let arguments = ["run", "scenario.ron", "--out", &out, "--store", "store", "--set", "rounds=1"];
        let said = [begin(&world, &arguments), begin(&world, &arguments)].map(finish);
        let codes = said.each_ref().map(|said| said.code);
        assert!(
            matches!(codes, [Some(0), Some(2)] | [Some(2), Some(0)]),
            "{codes:?}: {}",
            said[0].stderr.clone() + &said[1].stderr
        );
        let refused = said.into_iter().find(|said| said.code == Some(2)).expect("one of them");
        let reasons = ["another process is running there", "already holds a run"];
        assert!(reasons.iter().any(|reason| refused.stderr.contains(reason)), "{}", refused.stderr);
        world.fedreplay(&["verify", &out]).succeeded();
    }
}

#[test]
fn the_ledger_of_a_running_run_shows_all_finished_rounds() {
    let world = World::new();
    let mut child = begin(&world, &LONG);
    let (run, mut seen) = (world.path("run"), 0);
    while child.try_wait().expect("a child").is_none() {
        let finished = rounds_on_disk(&run, "rounds") as usize;
        if finished > seen {
            let rounds = fedreplay::ledger::read_table(&run, "rounds").expect("finished rounds can be read");
            let tasks = fedreplay::ledger::read_table(&run, "tasks").expect("finished rounds can be read");
            assert!(rounds.num_rows() >= finished && tasks.num_rows() >= rounds.num_rows(), "{finished} rounds");
            // No file may be hidden, torn or listed twice while a finished round is joined with the others.
            let said = world.fedreplay(&["verify", "run"]);
            assert!(said.code == Some(0) || said.stdout.lines().count() == 1, "{}", said.stdout);
            seen = finished;
        }
    }
    finish(child).succeeded();
    assert!(seen > 0, "the run was over before it could be read");
    assert_eq!(fedreplay::ledger::read_table(&run, "rounds").expect("a table").num_rows(), 30);
}

#[test]
fn a_second_process_is_refused() {
    let world = World::new();
    let mut child = begin(&world, &LONG);
    until_rounds(&mut child, &world.path("run"), "rounds", 1);
    world.fedreplay(&["resume", "run", "--store", "store"]).refused(2, &["another process is running there"]);
    world.fedreplay(&LONG).refused(2, &["already holds a run"]);
    child.kill().expect("it is still running");
    finish(child);
}

#[test]
fn a_run_does_not_resume_on_other_inputs() {
    let world = World::new();
    let mut child = begin(&world, &LONG);
    until_rounds(&mut child, &world.path("run"), "rounds", 1);
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
    assert!(!world.path("run/.scenario.ron.1.partial").exists(), "what was half written lies about");
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
