//! The store of results as its owner sees it: shown, checked, and trimmed of what no run needs.

use std::fs;
use std::process::Stdio;

use super::record::trained;
use super::support::{Said, World, files, until_rounds};

/// Tokens of rows and of test rows: no run needs them, they spare work.
const TOKENS: usize = 2;

/// Results that are whole: what a killed process had begun to write is none.
fn results(world: &World) -> usize {
    files(&world.path("store/results")).iter().filter(|(name, _)| !name.ends_with(".partial")).count()
}

fn play(world: &World, out: &str, lr: &str) -> Said {
    let set = format!("training.lr={lr}");
    world.fedreplay(&["run", "scenario.ron", "--out", out, "--store", "store", "--set", &set]).succeeded()
}

#[test]
fn a_trimmed_store_serves_the_runs_that_are_there() {
    let world = World::new();
    play(&world, "kept", "0.01");
    let gc = ["store", "gc", "--store", "store", "--max-size", "0B"];
    let needed = results(&world) - TOKENS;
    play(&world, "gone", "0.02");
    let both = results(&world);
    assert!(both > needed);
    let listed = world.fedreplay(&["store", "ls", "--store", "store"]).succeeded();
    assert!(listed.stdout.contains(&format!("results     {both} in ")), "{}", listed.stdout);
    for run in ["kept", "gone"] {
        assert!(listed.stdout.contains(&world.path(run).display().to_string()), "{}", listed.stdout);
    }
    // As long as both runs are there, nothing that they need can go, however little room there is.
    world.fedreplay(&gc).succeeded();
    let both = both - TOKENS;
    assert_eq!(results(&world), both);
    fs::remove_dir_all(world.path("gone")).expect("a run");
    let rehearsed = world.fedreplay(&[&gc[..], &["--dry-run"]].concat()).succeeded();
    assert_eq!(results(&world), both);
    assert!(rehearsed.stdout.starts_with(&format!("would remove {} results", both - needed)), "{}", rehearsed.stdout);
    let trimmed = world.fedreplay(&gc).succeeded();
    assert_eq!(results(&world), needed, "{}", trimmed.stdout);
    assert!(world.fedreplay(&["store", "verify", "--store", "store"]).succeeded().stdout.starts_with("whole: "));
    // What is left is all that the run needs.
    play(&world, "again", "0.01");
    assert_eq!(trained(&world.path("again")), 0);
    // A run can be given up while its folder is there; a rehearsal gives up nothing.
    for run in ["kept", "again"] {
        world.fedreplay(&["store", "gc", "--store", "store", "--forget", run, "--dry-run"]).succeeded();
        world.fedreplay(&["store", "gc", "--store", "store", "--forget", run]).succeeded();
    }
    let unknown = ["failed to give up kept: the store at store knows no run there"];
    world.fedreplay(&["store", "gc", "--store", "store", "--forget", "kept"]).refused(2, &unknown);
    world.fedreplay(&gc).succeeded();
    assert_eq!((results(&world), files(&world.path("store/contents")).len()), (0, 0));
    // Or be kept without having used the store.
    play(&world, "third", "0.01");
    world.fedreplay(&["store", "gc", "--store", "store", "--forget", "third"]).succeeded();
    world.fedreplay(&[&gc[..], &["--keep", "kept"]].concat()).succeeded();
    assert_eq!(results(&world), needed);
}

#[test]
fn what_a_living_or_unfinished_run_may_need_stays() {
    let world = World::new();
    let long = ["run", "scenario.ron", "--out", "run", "--store", "store", "--set", "rounds=30", "--workers=1"];
    let mut child =
        world.command(&long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run");
    until_rounds(&mut child, &world.path("run"), "rounds", 3);
    let gc = ["store", "gc", "--store", "store", "--max-size", "0B"];
    for _ in 0..3 {
        world.fedreplay(&gc).succeeded();
        assert!(results(&world) > 0);
    }
    child.kill().expect("it is still running");
    child.wait().expect("a child");
    let left = results(&world);
    let said = world.fedreplay(&gc).succeeded();
    assert!(said.stdout.contains("not finished: all that was used since it began"), "{}", said.stdout);
    assert_eq!(results(&world), left - TOKENS, "tokens are read before a run begins");
    world.fedreplay(&["resume", "run", "--store", "store"]).succeeded();
    let whole = world.run("whole", &["--set", "rounds=30"]).succeeded();
    let resumed = fedreplay::ledger::Manifest::read(&world.path("run")).expect("a manifest").digest;
    assert_eq!(resumed.map(|digest| digest.to_string()).as_deref(), Some(whole.summary("digest")));
}

#[test]
fn damage_is_named() {
    let world = World::new();
    play(&world, "run", "0.01");
    let (name, mut bytes) = files(&world.path("store/contents")).swap_remove(0);
    bytes[0] ^= 1;
    fs::write(world.path("store/contents").join(&name), &bytes).expect("a writable file");
    let (lost, _) = files(&world.path("store/contents")).swap_remove(1);
    fs::remove_file(world.path("store/contents").join(&lost)).expect("a content");
    let said = world.fedreplay(&["store", "verify", "--store", "store"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    for part in [format!("damaged: contents/{name}: its hash is "), "is missing".to_owned()] {
        assert!(said.stdout.contains(&part), "{part}: {}", said.stdout);
    }
    // Nothing is removed while it is not known what is needed.
    let (note, _) = files(&world.path("store/runs")).swap_remove(0);
    fs::write(world.path("store/runs").join(&note), "elsewhere").expect("a writable file");
    world.fedreplay(&["store", "gc", "--store", "store"]).refused(1, &["this note of a run is damaged"]);
    let said = world.fedreplay(&["store", "verify", "--store", "store"]);
    assert!(said.stdout.contains(&format!("{note}: this note of a run is damaged")), "{}", said.stdout);
    world.fedreplay(&["store", "ls", "--store", "nowhere"]).refused(2, &["nowhere"]);
}
