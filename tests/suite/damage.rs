//! Random bytes of a run and of its store are flipped, cut off, added or removed: each is found, or changes nothing.

use std::fs;
use std::path::Path;

use fedreplay_sim::Stream;

use super::support::{Said, World, copy, draws, files, hashed, trials};

/// One act of damage to the file that a seed draws from `folder`; `may` says which files are hit. Returns the file's name
/// and what was done to it.
fn damage(folder: &Path, draws: &mut Stream, may: impl Fn(&str) -> bool) -> (String, String) {
    let names: Vec<_> = files(folder).into_iter().filter(|(name, _)| may(name)).collect();
    let (name, mut bytes) = names[draws.below(names.len() as u64) as usize].clone();
    let path = folder.join(&name);
    let place = draws.below(bytes.len().max(1) as u64) as usize;
    let kind = draws.below(8);
    let what = match kind {
        0 => {
            fs::remove_file(&path).expect("it is there");
            return (name, "removed".into());
        }
        1 => {
            bytes.truncate(place);
            format!("cut to {place} bytes")
        }
        2 => {
            bytes.push(draws.below(256) as u8);
            "a byte longer".into()
        }
        _ if bytes.is_empty() => {
            bytes.push(0);
            "no longer empty".into()
        }
        _ => {
            let bit = draws.below(8);
            bytes[place] ^= 1 << bit;
            format!("bit {bit} of byte {place} flipped")
        }
    };
    fs::write(&path, bytes).expect("a writable file");
    (name, what)
}

#[track_caller]
fn is_named(said: &Said, name: &str, about: &str) {
    assert_eq!(said.code, Some(3), "{about}: {}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains(name), "{about}: {}", said.stdout);
    if name.starts_with("ledger/") && !about.contains("removed") {
        let table = name.split('/').nth(1).expect("a table");
        assert!(said.stdout.contains(&format!("changed: table {table}, ")), "{about}: {}", said.stdout);
    }
}

#[test]
fn damage_to_a_finished_run_is_found_and_located() {
    let world = World::new();
    world.run("whole", &[]).succeeded();
    for seed in 0..trials(24) {
        copy(&world.path("whole"), &world.path("run"));
        let mut draws = draws(seed);
        // Neither wall-clock figures nor the report, which can be made again, answer to a hash.
        let answers = |name: &str| !name.starts_with("timing/") && name != "report.html";
        let (name, what) = damage(&world.path("run"), &mut draws, answers);
        let about = format!("seed {seed}: {name} {what}");
        println!("{about}");
        let said = world.fedreplay(&["verify", "run"]);
        match name.as_str() {
            // Without it there is no run.
            "manifest.json" if what == "removed" => drop(said.refused(2, &["it holds no manifest.json"])),
            _ => is_named(&said, &name, &about),
        }
        fs::remove_dir_all(world.path("run")).expect("it is there");
    }
}

#[test]
fn damage_to_the_rows_of_a_table_is_located_by_row_group_and_round() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    let name = "ledger/events/00001-00003.parquet";
    let path = world.path("run").join(name);
    let whole = fs::read(&path).expect("a table");
    let mut places = Vec::new();
    for place in (8..whole.len()).step_by(whole.len() / 16) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0xff;
        fs::write(&path, bytes).expect("a writable file");
        let said = world.fedreplay(&["verify", "run"]);
        is_named(&said, name, &format!("byte {place}"));
        places.push(said.stdout);
    }
    assert!(places.iter().any(|said| said.contains("table events, row group 0 (rounds 1 to 3)")), "{places:#?}");
    assert!(places.iter().any(|said| said.contains("table events, the file's footer")), "{places:#?}");
}

#[test]
fn damage_to_an_unfinished_run_is_refused_or_played_over() {
    let world = World::new();
    let play = |arguments: &[&str]| world.fedreplay(&[arguments, &["--store", "store"]].concat());
    play(&["run", "scenario.ron", "--out", "undisturbed"]).succeeded();
    let expected = hashed(&world.path("undisturbed"));
    unfinished(&world, "undisturbed", "begun");
    for seed in 0..trials(12) {
        copy(&world.path("begun"), &world.path("run"));
        let (name, what) = damage(&world.path("run"), &mut draws(seed), |name| !name.starts_with("timing/"));
        let about = format!("seed {seed}: {name} {what}");
        println!("{about}");
        let said = play(&["resume", "run"]);
        if ["manifest.json", "scenario.ron"].contains(&name.as_str()) {
            assert!(matches!(said.code, Some(1 | 2)), "{about}: {}{}", said.stdout, said.stderr);
            assert!(!said.stderr.contains("panicked"), "{about}: {}", said.stderr);
        } else {
            said.succeeded();
            assert!(hashed(&world.path("run")) == expected, "{about}");
        }
        fs::remove_dir_all(world.path("run")).expect("it is there");
    }
}

/// Makes of a finished run the same one before its end.
fn unfinished(world: &World, finished: &str, begun: &str) {
    copy(&world.path(finished), &world.path(begun));
    let folder = world.path(begun);
    let mut manifest = fedreplay::ledger::Manifest::read(&folder).expect("a manifest");
    manifest.state = fedreplay::ledger::RunState::Running;
    manifest.digest = None;
    manifest.list_scenario(&folder).expect("a scenario");
    manifest.write(&folder).expect("a writable folder");
}

#[test]
fn damage_to_the_store_is_computed_again_and_never_used() {
    let world = World::new();
    let play = |out: &str| world.fedreplay(&["run", "scenario.ron", "--out", out, "--store", "store"]).succeeded();
    play("first");
    let expected = hashed(&world.path("first"));
    for seed in 0..trials(8) {
        let mut draws = draws(seed);
        for _ in 0..1 + draws.below(4) {
            let (name, what) = damage(&world.path("store"), &mut draws, |_| true);
            println!("seed {seed}: {name} {what}");
        }
        play("run");
        assert!(hashed(&world.path("run")) == expected, "seed {seed}");
        fs::remove_dir_all(world.path("run")).expect("it is there");
    }
}
