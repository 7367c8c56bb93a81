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
    // Progress, and the warning that the start-up test of the machine is a small one.
    let precedes = |line: &&str| line.starts_with("[ROUND") || line.starts_with("progress:") || line.contains(" WARN ");
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.is_empty() && !precedes(line)).collect();
    // OpenMP's library ends the process itself where it gets no thread.
    let is_sentence = |line: &str| line.starts_with("error: ") || line.starts_with("libgomp: Thread creation failed");
    assert!(matches!(lines[..], [line] if is_sentence(line)), "{limit} {command}: {stderr}");
    Some(lines[0].to_owned())
}

/// Returns the least value of a limit under which the program starts on this machine, up to `step` more.
fn least(world: &World, ulimit: &str, step: u64) -> u64 {
    let starts = |value: u64| {
        let mut shell = world.command_of("sh");
        let line = format!("{ulimit} {value}; exec \"$0\" --version");
        shell.args(["-c", &line, env!("CARGO_BIN_EXE_fedreplay")]).stdin(Stdio::null());
        shell.output().expect("a shell").status.success()
    };
    let mut enough = step;
    while !starts(enough) {
        enough *= 2;
        assert!(enough < 1 << 32, "{ulimit} {enough} is not enough");
    }
    let mut too_little = enough / 2;
    while enough - too_little > step {
        let middle = too_little.midpoint(enough);
        if starts(middle) { enough = middle } else { too_little = middle }
    }
    enough
}

#[test]
fn little_memory_ends_in_a_sentence() {
    /// [KiB] -- Distance of the limits that are tried to find the least.
    const STEP: u64 = 1 << 10;
    let world = world();
    for ulimit in ["ulimit -v", "ulimit -d"] {
        let least = least(&world, ulimit, STEP);
        let mut failed = 0;
        // From what the program starts with to nearly what all commands have enough in.
        for percent in [100, 110, 125] {
            for command in COMMANDS {
                let limit = format!("{ulimit} {}; exec", least * percent / 100);
                failed += usize::from(under(&world, &limit, command).is_some());
            }
        }
        assert!(failed >= COMMANDS.len(), "only {failed} failed with {ulimit} {least} and more");
        for percent in [140, 155, 170] {
            under(&world, &format!("{ulimit} {}; exec", least * percent / 100), COMMANDS[0]);
        }
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
    let least = least(&world, "ulimit -n", 1);
    // With a file less than two more, a library of LibTorch prints a line of its own.
    for more in [2, 4, 8, 12] {
        for command in COMMANDS {
            let sentence = under(&world, &format!("ulimit -n {}; exec", least + more), command);
            if let Some(sentence) = sentence {
                failed += 1;
                assert!(sentence.contains("oo many open files") || sentence.contains("ulimit -n"), "{sentence}");
            }
        }
    }
    assert!(failed > 0);
}
