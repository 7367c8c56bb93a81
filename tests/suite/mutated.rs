//! Inputs of every format with random changes go through the program: each is used or refused in one sentence, in time.
//!
//! `make soak` tries 20,000. A finding is kept in `fixtures/damaged`, and tried again by every run of this test.

mod formats;
mod inputs;
mod mutation;
mod readers;

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::formats::{FORMATS, Format};
use self::inputs::{Input, Inputs};
use self::mutation::mutate;
use super::support::fork_server::{End, output_within};
use super::support::{draws, files, not_possible, project, trials};

/// Files of formats, with inputs in `fixtures/damaged` that ended the program badly in their place.
const FOUND: [(&str, &str); 2] =
    [("run/ledger/rounds/00001-00001.parquet", "rounds.parquet"), ("clients.parquet", "rounds.parquet")];

/// Endings of files in fixtures and scenarios that the program does not read: pages, sources of fixtures, a script, and files without an
/// ending or half-made ones in a store.
const NOT_READ: [&str; 5] = ["md", "rs", "py", "partial", ""];

/// Code and messages of a command that ended as a user may see it, or why it did not.
type Outcome = Result<i32, String>;

/// Runs a command on a file.
fn outcome(inputs: &Inputs, command: &str, file: &str) -> Outcome {
    /// Far more than any of these inputs needs.
    const LIMIT: Duration = Duration::from_secs(60);
    const MEMORY: u64 = 6 << 30;
    let world = &inputs.world;
    let offline = command.strip_prefix("offline ");
    let words = offline.unwrap_or(command).split_whitespace();
    let words: Vec<String> = words.map(|word| word.replace("{}", file).replace("{url}", &inputs.url())).collect();
    let mut program = world.command(&[]);
    program.args(&words).envs(inputs.variables()).envs(offline.map(|_| ("HF_HUB_OFFLINE", "1")));
    let end = output_within(&mut program, Some(MEMORY), Some(LIMIT)).expect("the program can be run");
    let End::Ended(output) = end else {
        return Err(format!("`{command}` had not ended after {LIMIT:?}"));
    };
    for made in ["planned", "ran", "imported", "csv", "found", "again", "peft", "spread"] {
        let _ = fs::remove_dir_all(world.path(made));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The memory is the test's limit, far more than any of these inputs needs.
    let is_short = ["failed to get memory", "failed to start a thread", "a library of the program failed"]
        .iter()
        .any(|sentence| said.contains(sentence));
    let ends_well = match output.status.code() {
        Some(0 | 3) => true,
        Some(1 | 2) if !is_short => said.lines().filter(|line| line.starts_with("error: ")).count() == 1,
        _ => false,
    };
    let fault = format!("`{command}` ended with {}:\n{said}", output.status);
    if ends_well && !said.contains("panicked") { Ok(output.status.code().expect("a code")) } else { Err(fault) }
}

/// Tries a format's commands on these bytes in place of a file. Returns the first end that is not one a user should see, if so.
fn try_bytes(inputs: &Inputs, format: &Format, input: &Input, bytes: &[u8]) -> Option<String> {
    let mut fault = None;
    for command in format.commands {
        inputs.put(input, bytes);
        fault = outcome(inputs, command, &input.file).err();
        inputs.restore(input);
        if fault.is_some() {
            break;
        }
    }
    fault
}

/// Returns what is wrong with a format: its commands succeed on its file, each of which is tried once, and one of them fails on a file of
/// which nothing can be understood.
fn unread(inputs: &Inputs, format: &Format, tried: &mut BTreeSet<String>) -> Option<String> {
    let input = inputs.input(format, &mut draws(0));
    for command in format.commands {
        if tried.insert(command.replace("{}", format.file)) {
            let outcome = outcome(inputs, command, &input.file);
            inputs.restore(&input);
            if outcome != Ok(0) {
                return Some(format!("{} as it should be: `{command}` gives {outcome:?}", format.file));
            }
        }
    }
    if format.is_lenient {
        return None;
    }
    for command in format.commands {
        inputs.put(&input, b"\xff\0 is nothing");
        let outcome = outcome(inputs, command, &input.file);
        inputs.restore(&input);
        if outcome != Ok(0) {
            return None;
        }
    }
    Some(format!("{} is not read by its commands", format.file))
}

#[test]
fn changed_inputs_of_every_format_are_used_or_refused_in_one_sentence() {
    let inputs = Inputs::new();
    let mut tried = BTreeSet::new();
    let unread: Vec<String> = FORMATS.iter().filter_map(|format| unread(&inputs, format, &mut tried)).collect();
    assert!(unread.is_empty(), "{unread:#?}");
    // One of each format; a soak of 200 trials makes 20,000, on all processors.
    let is_soak = std::env::var_os("FEDREPLAY_SOAK").is_some();
    let count = trials(1) * if is_soak { 100 } else { FORMATS.len() as u64 };
    let first = std::env::var("FEDREPLAY_SOAK_FIRST").map_or(0, |text| text.parse().expect("a seed"));
    let threads = if is_soak { std::thread::available_parallelism().map_or(1, NonZeroUsize::get) } else { 1 };
    let next = AtomicU64::new(first);
    let mut found = Vec::new();
    let seeds =
        || std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&seed| seed < first + count));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| faulty(&Inputs::new(), seeds()))).collect();
        found.extend(faulty(&inputs, seeds()));
        found.extend(others.into_iter().flat_map(|other| other.join().expect("its faults are returned")));
    });
    assert!(found.is_empty(), "of {count} seeds, {found:?}");
}

/// Changes an input by each seed, and returns the seeds with a fault.
fn faulty(inputs: &Inputs, seeds: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut found = Vec::new();
    for seed in seeds {
        let mut draws = draws(seed);
        let format = &FORMATS[seed as usize % FORMATS.len()];
        let input = inputs.input(format, &mut draws);
        let other = inputs.input(&FORMATS[draws.below(FORMATS.len() as u64) as usize], &mut draws);
        let mut bytes = input.bytes.clone();
        mutate(&mut bytes, format.extension(), &other.bytes, &mut draws);
        if let Some(fault) = try_bytes(inputs, format, &input, &bytes) {
            let kept = std::env::temp_dir().join(format!("fedreplay-mutated-{seed}.{}", format.extension()));
            fs::write(&kept, &bytes).expect("a writable folder");
            println!("seed {seed}: {} is kept as {}: {fault}", input.file, kept.display());
            found.push(seed);
        }
    }
    found
}

/// [byte] -- Length of a file of holes: more than there is memory, or time to read it.
const HOLES: u64 = 1 << 40;

/// Formats whose files the program hashes to their end, whatever is in them: contents of a cache or a store under their hashes. Their
/// owner is trusted.
const HASHED: [&str; 3] = ["hf/", "kept/", "served/"];

#[test]
fn files_of_holes_are_refused_in_one_sentence() {
    let inputs = Inputs::new();
    let mut found = Vec::new();
    for format in FORMATS.iter().filter(|format| !HASHED.iter().any(|folder| format.file.starts_with(folder))) {
        let input = inputs.input(format, &mut draws(0));
        // Of the file as it should be with holes behind it, and of holes alone.
        for head in [&input.bytes[..], b""] {
            let mut is_refused = false;
            for command in format.commands {
                inputs.put(&input, head);
                let file = fs::File::options().write(true).open(inputs.world.path(&input.file)).expect("a file");
                if let Err(error) = file.set_len(HOLES) {
                    not_possible("files of holes", &error.to_string());
                    return;
                }
                drop(file);
                let outcome = outcome(&inputs, command, &input.file);
                inputs.restore(&input);
                is_refused |= outcome != Ok(0);
                found.extend(outcome.err());
            }
            // A command may not read the file, and what follows a file's content may be left out.
            if head.is_empty() && !is_refused && !format.is_lenient {
                found.push(format!("{} was used, and is nothing but holes", input.file));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_was_found_before_is_refused() {
    let inputs = Inputs::new();
    for (file, damaged) in FOUND {
        let format = FORMATS.iter().find(|format| format.file == file).expect("a format with this file");
        let bytes = fs::read(project("fixtures/damaged").join(damaged)).expect("a fixture");
        let input = inputs.input(format, &mut draws(0));
        assert_eq!(try_bytes(&inputs, format, &input, &bytes), None, "{damaged} as {file}");
    }
    for (name, _) in files(&project("fixtures/damaged")) {
        assert!(FOUND.iter().any(|&(_, damaged)| damaged == name), "fixtures/damaged/{name} is not tried");
    }
}

#[test]
fn every_format_of_fixtures_and_scenarios_is_mutated() {
    let known: BTreeSet<&str> = FORMATS.iter().map(Format::extension).chain(NOT_READ).collect();
    for folder in ["fixtures", "scenarios"] {
        for (name, _) in files(&project(folder)) {
            let extension = Path::new(&name).extension().unwrap_or_default().to_string_lossy().into_owned();
            assert!(known.contains(extension.as_str()), "{folder}/{name}: files of this format are not mutated");
        }
    }
}
