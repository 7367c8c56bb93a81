//! Inputs and folders that are damaged, hostile or odd end in one sentence, and nothing half-made is left.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use super::support::{Said, World, project};

#[test]
fn nothing_is_written_into_the_folder_of_a_run() {
    let world = World::new();
    let one = ["--set", "rounds=1", "--set", "evaluation.local_baseline=false"];
    world.run("run", &one).succeeded();
    world.write("single.json", &super::support::rows(9, "one").to_string());
    let commands: [&[&str]; 8] = [
        &["run", "scenario.ron", "--store", "none", "--out", "run/more"],
        &["plan", "scenario.ron", "--out", "run/ledger/more"],
        &["eval", "run", "--store", "none", "--out", "run/more"],
        &["eval", "run", "--store", "none", "--out", "run"],
        &["export", "run", "--to", "csv", "--out", "run/more"],
        &["data", "split", "data.json", "--out", "run/more"],
        &["data", "twin", "fed-aya", "--length-scale", "0.1", "--out", "run/more"],
        &["data", "inspect", "data.json", "--out", "run/more.parquet"],
    ];
    for command in commands {
        let said = world.fedreplay(command);
        assert_eq!(said.code, Some(2), "{command:?}: {}{}", said.stdout, said.stderr);
        assert!(!world.path("run/more").exists(), "{command:?}");
    }
    assert!(world.fedreplay(&["verify", "run"]).succeeded().stdout.starts_with("whole: "));
}

#[test]
fn an_export_that_fails_or_was_killed_leaves_nothing_in_the_way() {
    let world = World::new();
    world.run("run", &["--set", "rounds=1", "--set", "evaluation.local_baseline=false"]).succeeded();
    let lineage = world.path("run/ledger/lineage/00001-00001.parquet");
    let bytes = fs::read(&lineage).expect("a table");
    fs::write(&lineage, "damaged").expect("a writable folder");
    let export = ["export", "run", "--to", "csv", "--out", "tables"];
    assert_eq!(world.fedreplay(&export).code, Some(1));
    fs::write(&lineage, bytes).expect("a writable folder");
    // What a killed process leaves: no process has this number.
    let left = world.path(".tables.4294967295.partial");
    fs::create_dir(&left).expect("a writable folder");
    fs::write(left.join("population.csv"), "client\n").expect("a writable folder");
    let of_replay = world.path(".run.replay.4294967295/replay");
    fs::create_dir_all(&of_replay).expect("a writable folder");
    fs::copy(world.path("run/manifest.json"), of_replay.join("manifest.json")).expect("a manifest");
    world.fedreplay(&export).succeeded();
    let listed = world.fedreplay(&["ls", "."]).succeeded().stdout;
    assert!(!listed.contains("replay"), "{listed}");
    world.fedreplay(&["replay", "run"]).succeeded();
    let names: Vec<String> = fs::read_dir(world.path(""))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(names, Vec::<String>::new());
    assert_eq!(fs::read_dir(world.path("tables")).expect("a folder").count(), 9);
}

#[test]
fn an_odd_note_among_those_of_runs_is_named_and_passed_over() {
    let world = World::new();
    let name = OsStr::from_bytes(b"run-\xff");
    let run = |world: &World| {
        let mut command = world.command(&["run", "scenario.ron", "--store", "store", "--set", "rounds=1", "--json"]);
        command.arg("--out").arg(name);
        Said::of(command.output().expect("the binary can be run"))
    };
    let said = run(&world).succeeded();
    assert!(
        said.stdout.lines().last().is_some_and(|line| line.contains("\"run\":\"run-\u{fffd}\"")),
        "{}",
        said.stdout
    );
    for command in ["verify", "show"] {
        let mut command = world.command(&[command, "--json"]);
        Said::of(command.arg(name).output().expect("the binary can be run")).succeeded();
    }
    fs::write(world.path("store/runs").join("0".repeat(64)), "").expect("a writable folder");
    fs::write(world.path("store/runs/notes.txt"), "x").expect("a writable folder");
    for command in [&["store", "ls"][..], &["store", "gc", "--max-age", "0s"]] {
        let said = world.fedreplay(&[command, &["--store", "store", "--json"]].concat()).succeeded();
        assert_eq!(said.stderr.matches("it is no note of a run").count(), 2, "{}", said.stderr);
    }
    let said = world.fedreplay(&["store", "verify", "--store", "store"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert_eq!(said.stdout.matches("it is no note of a run").count(), 2, "{}", said.stdout);
    // The run's results are still needed.
    fs::remove_file(world.path("store/runs/notes.txt")).expect("a file");
    let before = super::support::stored(&world.path("store")).len();
    world.fedreplay(&["store", "gc", "--store", "store", "--max-size", "0B"]).succeeded();
    assert_eq!(super::support::stored(&world.path("store")).len(), before);
}

#[test]
fn no_command_writes_into_a_run() {
    let world = World::new();
    world.run("run", &["--set", "rounds=2"]).succeeded();
    world.write("sweep.ron", "(name: \"s\", scenario: \"scenario.ron\", seeds: [1])");
    let before = super::support::files(&world.path("run"));
    for command in [
        &["sweep", "sweep.ron", "--out", "run/more", "--store", "none"][..],
        &["scenario", "new", "run/mine.ron", "--model", "base", "--data", "data.json"],
        &["generate", "man", "--out", "run/man"],
        &["run", "scenario.ron", "--out", "other", "--store", "run/store"],
        &["replay", "run", "--scratch", "run/scratch"],
        &["fork", "run", "--at-round", "2", "--set", "training.lr=0.02", "--out", "run/fork", "--store", "none"],
        &["plan", "scenario.ron", "--out", "run/plan"],
        &["data", "split", "data.json", "--out", "run/split"],
        &["export", "run", "--to", "csv", "--out", "run/csv"],
        &["eval", "run", "--out", "run/found"],
    ] {
        world.fedreplay(command).refused(2, &["answers for every file there"]);
    }
    assert!(super::support::files(&world.path("run")) == before);
}

#[test]
fn a_parser_that_panics_is_an_error_with_the_name_of_the_file() {
    let world = World::new();
    world.run("run", &["--set", "rounds=1", "--set", "evaluation.local_baseline=false"]).succeeded();
    // A page that the Parquet reader panics on.
    fs::copy(project("fixtures/damaged/rounds.parquet"), world.path("run/ledger/rounds/00001-00001.parquet"))
        .expect("a table");
    let file = "ledger/rounds";
    for command in [&["show", "run"][..], &["export", "run", "--to", "csv", "--out", "x"], &["eval", "run"]] {
        world.fedreplay(command).refused(1, &[file]);
    }
    let said = world.fedreplay(&["verify", "run"]);
    assert_eq!(said.code, Some(3), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains(file) && !said.stderr.contains("panicked"), "{}{}", said.stdout, said.stderr);
    // Tokenizers that its library panics on.
    for pattern in [r#"{"String":""}"#, r#"{"Regex":"^"}"#] {
        let path = world.path("base/tokenizer.json");
        let mut tokenizer: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        let pattern: serde_json::Value = serde_json::from_str(pattern).expect("JSON");
        tokenizer["normalizer"] = serde_json::json!({"type": "Replace", "pattern": pattern, "content": "xx"});
        fs::write(&path, tokenizer.to_string()).expect("a writable file");
        let said = world.fedreplay(&["data", "inspect", "data.json", "--tokenizer", "base"]);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
        assert!(matches!(said.code, Some(0 | 2)), "{:?}: {}", said.code, said.stderr);
    }
}

#[test]
fn products_that_nobody_means_are_refused_by_their_number() {
    let world = World::new();
    let values: Vec<String> = (1..=10).map(|value| format!("\"{value}\"")).collect();
    let axis = |path: &str| format!("(path: \"{path}\", values: [{}])", values.join(", "));
    let paths = ["rounds", "seed", "training.lr", "training.local_steps", "training.batch_size", "model.lora.rank"];
    let axes: Vec<String> = paths.iter().map(|path| axis(path)).collect();
    world.write("sweep.ron", &format!("(name: \"many\", scenario: \"scenario.ron\", axes: [{}])", axes.join(", ")));
    let sweep = ["sweep", "sweep.ron", "--out", "out", "--store", "none"];
    world.fedreplay(&sweep).refused(2, &["axes", "1000000 runs", "at most 100000"]);
    assert!(!world.path("out").exists());
    // A list that doubles with each line, although the text of the words stays empty.
    let lines: Vec<String> = (1..40).map(|n| format!("a{n}=\"$a{}$a{}\"", n - 1, n - 1)).collect();
    world.write("train.sh", &format!("a0=\"$unset\"\n{}\npython main_sft.py --x \"$a39\"\n", lines.join("\n")));
    let mut command = Command::new("sh");
    command.current_dir(world.path("")).args(["-c", "ulimit -v 4000000; exec \"$0\" import train.sh"]);
    let said = Said::of(command.arg(env!("CARGO_BIN_EXE_fedreplay")).output().expect("a shell"));
    assert!(matches!(said.code, Some(0 | 2)), "{:?}: {}", said.code, said.stderr);
}
