//! Runs that are killed at random moments, again and again: each ends in the bytes of an undisturbed one, and nothing that
//! was on disk is computed twice.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fedreplay::ledger::{Manifest, RunState};

use super::support::{World, draws, hashed, is_cut_report, orders, stored, trials};

/// Kills of one run at most.
const KILLS_MAX: u64 = 3;

/// Whether the program ended by itself within this time.
fn ends_within(child: &mut Child, time: Duration) -> bool {
    let mut stdout = child.stdout.take().expect("it is piped");
    let (sender, receiver) = mpsc::channel();
    // The pipe closes when the program ends, however it ends.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        let _ = sender.send(());
    });
    receiver.recv_timeout(time).is_ok()
}

/// How far the run in this folder is; none if its manifest was not written yet.
fn state(world: &World, run: &str) -> Option<RunState> {
    let run = world.path(run);
    Manifest::path(&run).exists().then(|| Manifest::read(&run).expect("manifests appear whole").state)
}

/// Begins the run, or goes on with it.
fn go_on(world: &World, run: &str, store: &str, workers: &str) -> std::process::Command {
    let begun = ["resume", run, "--store", store, "--workers", workers];
    let new = ["run", "scenario.ron", "--out", run, "--store", store, "--workers", workers];
    let mut command = world.command(if state(world, run).is_some() { &begun } else { &new });
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// An order of the finished run that was computed although its result had been on disk.
fn computed_again(world: &World, run: &str, kept: &BTreeSet<String>) -> Option<String> {
    orders(&world.path(run)).into_iter().find(|(key, from_store)| !from_store && kept.contains(key)).map(|(key, _)| key)
}

/// Kills one run at moments that the seed draws, plays it to its end, and returns how many kills met it alive.
fn trial(world: &World, seed: u64, length: Duration, expected: &[(String, Vec<u8>)]) -> u64 {
    let (run, store) = (format!("run-{seed}"), format!("store-{seed}"));
    let mut draws = draws(seed);
    let mut hits = 0;
    let kills = 1 + draws.below(KILLS_MAX);
    for _ in 0..kills {
        let workers = (1 + draws.below(4)).to_string();
        let moment = length.mul_f64(draws.unit());
        let mut child = go_on(world, &run, &store, &workers).spawn().expect("the binary can be run");
        if !ends_within(&mut child, moment) {
            hits += 1;
            child.kill().expect("it is running");
        }
        child.wait().expect("a child");
        if state(world, &run) == Some(RunState::Done) {
            break;
        }
    }
    if state(world, &run) != Some(RunState::Done) {
        let kept = stored(&world.path(&store));
        let ended = go_on(world, &run, &store, "2").stderr(Stdio::inherit()).status().expect("the binary can be run");
        assert!(ended.success(), "seed {seed}: the run does not go on: {ended}");
        assert_eq!(computed_again(world, &run, &kept), None, "seed {seed}: it was computed again");
    }
    let found = hashed(&world.path(&run));
    let others: Vec<_> = found.iter().filter(|file| !expected.contains(file)).map(|(name, _)| name).collect();
    assert!(others.is_empty() && found.len() == expected.len(), "seed {seed}: not of an undisturbed run: {others:?}");
    world.fedreplay(&["verify", &run]).succeeded();
    let left = fs::read_dir(world.path(&run)).expect("a run").filter_map(Result::ok);
    let left: Vec<_> = left
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.'))
        .collect();
    let left: Vec<_> = left.into_iter().filter(|name| !is_cut_report(name)).collect();
    assert!(left.is_empty(), "seed {seed}: {left:?} lie about");
    for folder in [&run, &store] {
        fs::remove_dir_all(world.path(folder)).expect("it is there");
    }
    hits
}

#[test]
fn runs_killed_at_random_moments_end_in_the_bytes_of_an_undisturbed_one() {
    let world = World::new();
    let began = Instant::now();
    world.fedreplay(&["run", "scenario.ron", "--out", "undisturbed", "--store", "store"]).succeeded();
    let length = began.elapsed();
    let expected = hashed(&world.path("undisturbed"));
    let mut hits = 0;
    for seed in 0..trials(8) {
        let hit = trial(&world, seed, length, &expected);
        println!("seed {seed}: killed {hit} times");
        hits += hit;
    }
    assert!(hits > 0, "no kill met a run alive");
    println!("{hits} kills");
}

#[test]
fn a_lost_result_costs_itself_alone() {
    let world = World::new();
    let play = |out: &str| world.fedreplay(&["run", "scenario.ron", "--out", out, "--store", "store"]).succeeded();
    let digest = play("first").summary("digest").to_owned();
    let mut draws = draws(1);
    let keys: Vec<String> = orders(&world.path("first")).into_iter().map(|(key, _)| key).collect();
    for trial in 0..4 {
        let lost = &keys[draws.below(keys.len() as u64) as usize];
        fs::remove_file(world.path("store/results").join(&lost[..2]).join(lost)).expect("a stored result");
        let out = format!("again-{trial}");
        assert_eq!(play(&out).summary("digest"), digest);
        let computed: Vec<String> =
            orders(&world.path(&out)).into_iter().filter(|(_, from_store)| !from_store).map(|(key, _)| key).collect();
        assert_eq!(computed, std::slice::from_ref(lost), "seed 1, trial {trial}");
        fs::remove_dir_all(world.path(&out)).expect("it is there");
    }
}
