//! Limits of the machine: memory, threads and open files. Each ends in one sentence and exit code 1.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use super::support::{Said, World};

/// Commands that are tried, in a folder with a finished plan in `done`.
const COMMANDS: [&str; 4] = [
    "run scenario.ron --out made --store none --workers 2",
    "plan scenario.ron --out made",
    "verify done",
    "scenario check scenario.ron",
];

/// Folder with a plan, which users other than the owner may enter.
fn world() -> World {
    let world = World::new();
    world.fedreplay(&["plan", "scenario.ron", "--out", "done"]).succeeded();
    let mut open = world.command_of("chmod");
    assert!(open.args(["-R", "a+rwX", "."]).status().expect("chmod is there").success());
    world
}

/// Runs a command under a limit, which is a line of shell, and returns its sentence if it failed.
#[track_caller]
fn under(world: &World, limit: &str, command: &str) -> Option<String> {
    let _ = fs::remove_dir_all(world.path("made"));
    let mut shell = world.command_of("timeout");
    let line = format!("{limit} \"$0\" {command}");
    shell.args(["--signal=KILL", "60", "sh", "-c", &line, env!("CARGO_BIN_EXE_fedreplay")]).stdin(Stdio::null());
    let said = Said::of(shell.output().expect("a shell"));
    let Said { code, stderr, .. } = &said;
    if *code == Some(0) {
        return None;
    }
    assert_eq!(*code, Some(1), "{limit} {command}: {stderr}");
    let is_progress = |line: &&str| ["[ROUND", "progress:"].iter().any(|begin| line.starts_with(begin));
    let lines: Vec<&str> = stderr.lines().filter(|line| !is_progress(line)).collect();
    assert!(matches!(lines[..], [line] if line.starts_with("error: ")), "{limit} {command}: {stderr}");
    Some(lines[0].to_owned())
}

#[test]
fn little_memory_ends_in_a_sentence() {
    let world = world();
    let mut failed = 0;
    // From what the libraries take alone to what all commands have enough in.
    for limit in ["ulimit -v 450000; exec", "ulimit -v 520000; exec", "ulimit -v 600000; exec", "ulimit -d 60000; exec"]
    {
        for command in COMMANDS {
            failed += usize::from(under(&world, limit, command).is_some());
        }
    }
    assert!(failed >= 8, "only {failed} failed");
    for memory in [80_000, 100_000, 130_000] {
        under(&world, &format!("ulimit -d {memory}; exec"), COMMANDS[0]);
    }
}

#[test]
fn threads_that_cannot_be_started_end_in_a_sentence() {
    let world = world();
    // The limit does not hold for root, who becomes a user without processes.
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let other = if is_root { "setpriv --reuid 64321 --clear-groups" } else { "" };
    let entered = world
        .command_of("sh")
        .args(["-c", &format!("{other} \"$0\" --version"), env!("CARGO_BIN_EXE_fedreplay")])
        .output();
    assert!(entered.expect("a shell").status.success(), "another user cannot execute the program");
    for command in COMMANDS {
        let sentence = under(&world, &format!("exec prlimit --nproc=1 {other}"), command);
        let sentence = sentence.expect("a thread for signals is the least");
        assert!(sentence.starts_with("error: failed to start a thread: "), "{sentence}");
    }
    for threads in [2, 3, 4, 5] {
        under(&world, &format!("exec prlimit --nproc={threads} {other}"), COMMANDS[0]);
    }
}

#[test]
fn few_open_files_end_in_a_sentence() {
    let world = world();
    let mut failed = 0;
    for files in [6, 8, 12, 16] {
        for command in COMMANDS {
            let sentence = under(&world, &format!("ulimit -n {files}; exec"), command);
            if let Some(sentence) = sentence {
                failed += 1;
                assert!(sentence.contains("oo many open files") || sentence.contains("ulimit -n"), "{sentence}");
            }
        }
    }
    assert!(failed > 0);
}
