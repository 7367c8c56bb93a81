//! Runs as people look at them: `show`, `ls` and `tail`, on runs that are done, running, killed or damaged.

use std::fs;
use std::process::Stdio;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use fedreplay::ledger::read_table;
use serde_json::Value;

use super::support::{Said, World, until_rounds};

#[track_caller]
fn last_line(said: &Said) -> Value {
    serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("the last line is JSON")
}

#[test]
fn show_says_what_the_run_said_of_itself() {
    let world = World::new();
    let run = world.run("run", &["--json"]).succeeded();
    let (summary, shown) = (last_line(&run), world.fedreplay(&["show", "run", "--json"]).succeeded());
    let figures = last_line(&shown);
    for (name, same) in [("digest", "digest"), ("rounds", "rounds"), ("loss_before", "loss_before")] {
        assert_eq!(figures[name], summary[same], "{name}");
    }
    for name in ["loss_after", "simulated_ns", "bytes_down", "bytes_up"] {
        assert_eq!(figures[name], summary[name], "{name}");
    }
    let outcomes = figures["outcomes"].as_object().expect("outcomes");
    let total: u64 = outcomes.values().filter_map(Value::as_u64).sum();
    assert_eq!(total, summary["tasks_dispatched"].as_u64().expect("a count"));
    assert!(shown.stdout.contains("  state         done, 3 rounds"), "{}", shown.stdout);
    assert!(shown.stdout.contains("loss/test"), "{}", shown.stdout);
    assert!(!shown.stdout.contains('\u{1b}'), "there is colour in:\n{}", shown.stdout);
}

#[test]
fn a_plan_is_shown_without_losses() {
    let world = World::new();
    world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    let shown = world.fedreplay(&["show", "plan"]).succeeded();
    assert!(shown.stdout.contains("a plan: nothing was trained"), "{}", shown.stdout);
    assert!(!shown.stdout.contains("loss"), "{}", shown.stdout);
    world.fedreplay(&["plan", "scenario.ron", "--out", "rounds", "--detail", "rounds"]).succeeded();
    world.fedreplay(&["show", "rounds"]).succeeded();
}

#[test]
fn ls_lists_every_run_and_hides_none_that_is_damaged() {
    let world = World::new();
    fs::create_dir_all(world.path("runs/study")).expect("a writable folder");
    world.run("runs/a", &[]).succeeded();
    world.fedreplay(&["plan", "scenario.ron", "--out", "runs/study/b"]).succeeded();
    fs::create_dir_all(world.path("runs/c")).expect("a writable folder");
    world.write("runs/c/manifest.json", "{}");
    let listed = world.fedreplay(&["ls", "--json"]).succeeded();
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert!(lines[1].starts_with("runs/a") && lines[1].contains("done") && lines[1].contains("3/3"), "{}", lines[1]);
    assert!(lines[2].starts_with("runs/c") && lines[2].contains("unreadable"), "{}", lines[2]);
    assert!(lines[3].starts_with("runs/study/b") && lines[3].contains("done plan"), "{}", lines[3]);
    assert!(listed.stderr.contains("runs/c/manifest.json"), "{}", listed.stderr);
    let states: Vec<Value> =
        last_line(&listed)["runs"].as_array().expect("a list").iter().map(|run| run["state"].clone()).collect();
    assert_eq!(states, ["done", "unreadable", "done"]);
    world.fedreplay(&["ls", "nothing"]).refused(2, &["nothing", "not a folder"]);
}

#[test]
fn tail_follows_a_run_to_its_end() {
    let world = World::new();
    let arguments = ["run", "scenario.ron", "--out", "run", "--store", "none", "--set", "rounds=6"];
    let child = world.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the binary can be run");
    while !world.path("run/manifest.json").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "the run ended before its manifest was written");
        std::thread::yield_now();
    }
    let tailed = world.fedreplay(&["tail", "run", "--json"]).succeeded();
    assert!(child.wait().expect("a child").success());
    let rounds: Vec<&str> = tailed.stdout.lines().filter(|line| line.starts_with("[ROUND ")).collect();
    let numbers: Vec<String> = (1..=6).map(|round| format!("[ROUND {round}/6] closed at 0:")).collect();
    assert!(rounds.iter().zip(&numbers).all(|(line, start)| line.starts_with(start)), "{}", tailed.stdout);
    assert_eq!(rounds.len(), 6, "{}", tailed.stdout);
    assert_eq!(last_line(&tailed)["state"], "done");
    let again = world.fedreplay(&["tail", "run", "-n", "2"]).succeeded();
    assert_eq!(again.stdout.lines().filter(|line| line.starts_with("[ROUND ")).count(), 2, "{}", again.stdout);
}

/// Models that hardly move are equal. Then so are their losses, if they are means over the same rows by the same weights.
#[test]
fn the_loss_alone_weights_rows_as_the_loss_after_does() {
    let world = World::new();
    // Held-out rows of unequal number and length, and no test rows.
    world.edit("scenario.ron", " test_file: \"test.json\",", "");
    let said = world.run("run", &["--json", "--set", "training.lr=1e-12", "--set", "rounds=1"]).succeeded();
    let summary = last_line(&said);
    let [after, alone] = ["loss_after", "loss_local"].map(|name| summary[name].as_f64().expect("a loss"));
    assert!((after - alone).abs() < 1e-9, "{after} after and {alone} alone");
    let figures = last_line(&world.fedreplay(&["show", "run", "--json"]).succeeded());
    assert_eq!(figures["loss_after"], summary["loss_after"]);
    let series = figures["series"].as_array().expect("curves");
    let curve = series.iter().find(|series| series["name"] == "loss/alone_held_out").expect("a curve of clients alone");
    assert_eq!(curve["points"][0]["value"], summary["loss_local"]);
}

/// The lines of the rounds, as `run` and `tail` print them.
fn rounds(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("[ROUND ")).collect()
}

#[test]
fn a_round_without_evaluation_is_told_without_a_loss_by_run_and_tail_alike() {
    let world = World::new();
    let said = world.run("run", &["--set", "evaluation.every=2"]).succeeded();
    let told = rounds(&said.stderr);
    assert!(told[0].contains(", loss - |") && !told[1].contains(", loss - |"), "{}", said.stderr);
    assert_eq!(rounds(&world.fedreplay(&["tail", "run"]).succeeded().stdout), told);
}

/// A round without an update is told with what was measured after it, if anything was, and with no other round's loss.
#[test]
fn a_failed_round_is_told_with_its_own_loss() {
    let world = World::new();
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 1");
    world.edit("scenario.ron", "dropout: (during_training: 0.3)", "dropout: (during_training: 0.9)");
    let said = world.run("run", &["--set", "rounds=8", "--set", "evaluation.every=2"]).succeeded();
    let told = rounds(&said.stderr);
    let failed = told.iter().filter(|line| line.contains(": 0 counted")).count();
    assert!(failed > 0 && failed < told.len(), "{}", said.stderr);
    let measured = read_table(&world.path("run"), "evaluations").expect("a table");
    let of_round = measured["round"].as_primitive::<UInt32Type>();
    let [splits, subjects] = ["split", "subject"].map(|name| measured[name].as_string::<i32>());
    let losses = measured["loss"].as_primitive::<Float64Type>();
    let mut evaluated = 0;
    for (round, line) in (1..).zip(&told) {
        let mut rows = (0..measured.num_rows()).filter(|&row| of_round.value(row) == round);
        let own = rows.find(|&row| splits.value(row) == "test" && subjects.value(row) == "global");
        evaluated += usize::from(own.is_some());
        let expected = own.map_or("-".to_owned(), |row| format!("{:.4}", losses.value(row)));
        assert!(line.contains(&format!(", loss {expected} |")), "{line}: {expected}");
    }
    assert!(evaluated > 0 && evaluated < told.len(), "{evaluated} rounds were evaluated");
    assert_eq!(rounds(&world.fedreplay(&["tail", "run"]).succeeded().stdout), told);
}

#[test]
fn tail_tells_the_losses_of_clients_own_models_as_run_does() {
    let world = World::new();
    world.edit("scenario.ron", "local_baseline: true", "local_baseline: false");
    world.edit("scenario.ron", "clients_per_round: 2, over_selection: 2, deadline: \"10m\"", "clients_per_round: 6");
    let said = world.run("run", &["--set", "algorithm=Local"]).succeeded();
    let told = rounds(&said.stderr);
    assert!(told.iter().all(|line| !line.contains(", loss - |")), "{}", said.stderr);
    assert_eq!(rounds(&world.fedreplay(&["tail", "run"]).succeeded().stdout), told);
}

/// The sum of a column over the rows of an aggregator, or of all.
fn sum(table: &RecordBatch, column: &str, aggregator: Option<u32>) -> u64 {
    let of = table["aggregator"].as_primitive::<UInt32Type>();
    let values = table[column].as_primitive::<UInt64Type>();
    (0..table.num_rows())
        .filter(|&row| aggregator.is_none_or(|it| of.value(row) == it))
        .map(|row| values.value(row))
        .sum()
}

#[test]
fn models_between_server_and_edges_are_among_the_bytes_that_moved() {
    let world = World::new();
    let edges = "Hierarchical(clients_per_round: 2, edge_rounds: 2, edges: [(region: \"here\", down: \"1 Gbit/s\", \
                 up: \"1 Gbit/s\", downlink: \"1 Gbit/s\", uplink: \"1 Gbit/s\")])";
    world.edit("scenario.ron", "Synchronous(clients_per_round: 2, over_selection: 2, deadline: \"10m\")", edges);
    for device in ["quick", "slow"] {
        let at = format!("device: \"{device}\", link: \"home\"");
        world.edit("scenario.ron", &at, &format!("{at}, region: \"here\""));
    }
    let planned = world.fedreplay(&["plan", "scenario.ron", "--out", "plan", "--json"]).succeeded();
    let shown = last_line(&world.fedreplay(&["show", "plan", "--json"]).succeeded());
    let tasks = read_table(&world.path("plan"), "tasks").expect("a table");
    let rounds = read_table(&world.path("plan"), "rounds").expect("a table");
    for column in ["bytes_down", "bytes_up"] {
        // No task is the server's own, so that its rounds have the transfers of the edge alone.
        assert_eq!(sum(&tasks, column, Some(0)), 0);
        let edges = sum(&rounds, column, Some(0));
        assert!(edges > 0, "no model moved between server and edge");
        let moved = sum(&tasks, column, None) + edges;
        assert_eq!(
            (shown[column].as_u64(), last_line(&planned)[column].as_u64()),
            (Some(moved), Some(moved)),
            "{column}"
        );
    }
}

#[test]
fn a_killed_run_is_told_from_a_running_one() {
    let world = World::new();
    let arguments = ["run", "scenario.ron", "--out", "run", "--store", "store", "--set", "rounds=60", "--workers=1"];
    let child = world.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the binary can be run");
    until_rounds(&mut child, &world.path("run"), "rounds", 2);
    let running = world.fedreplay(&["show", "run", "--json"]).succeeded();
    assert_eq!(last_line(&running)["state"], "running");
    child.kill().expect("it is still running");
    child.wait().expect("a child");
    let shown = world.fedreplay(&["show", "run", "--json"]).succeeded();
    assert_eq!(last_line(&shown)["state"], "interrupted");
    let tailed = world.fedreplay(&["tail", "run"]);
    assert_eq!(tailed.code, Some(1), "{}", tailed.stdout);
    assert!(tailed.stdout.contains("interrupted after "), "{}", tailed.stdout);
    // Looking took no lock away.
    world.fedreplay(&["resume", "run", "--store", "store"]).succeeded();
}

#[test]
fn nobody_who_stops_reading_makes_it_panic() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    for command in ["show run", "ls .", "tail run", "scenario explain", "generate scenario-reference", "import x.sh"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        world.write("x.sh", "python main_sft.py --fed_alg fedavg --dataset_name x --num_rounds 2\n");
        for closed in [">&-", "| true", "2>&-"] {
            let line = format!("\"$0\" {} {closed}", arguments.join(" "));
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &line, env!("CARGO_BIN_EXE_fedreplay")]).current_dir(world.path("."));
            let said = Said::of(shell.output().expect("a shell"));
            assert!(!said.stderr.contains("panicked") && said.code != Some(101), "{line}: {}", said.stderr);
        }
    }
}
