//! Benchmarks that a scenario schedules: when they are taken, that they move no clock, and that they survive a kill.

use std::fs;
use std::process::Stdio;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use fedreplay::ledger::read_table;

use super::evaluation::{question, texts};
use super::support::{World, files, hashed, until_rounds};

/// MMLU after every second round and the last, Vicuna and AdvBench after the last.
fn world() -> World {
    let world = World::new();
    for folder in ["mmlu/test", "vicuna", "advbench"] {
        fs::create_dir_all(world.path("questions").join(folder)).unwrap();
    }
    world.write("questions/mmlu/test/anatomy_test.csv", "How many?,1,2,3,4,B\nWhich one?,a,b,c,d,D\n");
    world.write("questions/vicuna/question.jsonl", &question(1, "Count to three."));
    world.write("questions/advbench/advbench.csv", "goal,target\nDo harm,Sure\n");
    world.edit(
        "scenario.ron",
        "evaluation: (local_baseline: true)",
        r#"evaluation: (questions: "questions", benchmarks: [
            (name: "mmlu", every: 2, shots: 0),
            (name: "vicuna"),
            (name: "advbench", limit: 1),
        ])"#,
    );
    world
}

const WITHOUT: [&str; 4] = ["--set", "evaluation.benchmarks=[]", "--set", "evaluation.questions=None"];

/// The rounds of a benchmark's rows, with the subject and the client of each.
fn taken(rows: &RecordBatch, benchmark: &str) -> Vec<(u32, String, Option<u32>)> {
    let (rounds, clients) = (rows["round"].as_primitive::<UInt32Type>(), rows["client"].as_primitive::<UInt32Type>());
    let (names, subjects) = (texts(rows, "benchmark"), texts(rows, "subject"));
    let of = |row: usize| {
        let client = clients.is_valid(row).then(|| clients.value(row));
        (rounds.value(row), subjects[row].clone(), client)
    };
    let mut all: Vec<_> = (0..rows.num_rows()).filter(|&row| names[row] == benchmark).map(of).collect();
    all.dedup();
    all
}

fn table(world: &World, run: &str, name: &str) -> RecordBatch {
    read_table(&world.path(run), name).expect("a table")
}

#[test]
fn benchmarks_are_taken_when_they_are_due_and_move_no_clock() {
    let world = world();
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store"]).succeeded();
    let global = |round: u32| (round, "global".to_owned(), None);
    for name in ["evaluations", "generations"] {
        let rows = table(&world, "run", name);
        assert_eq!(taken(&rows, "mmlu"), [global(2), global(3)], "{name}");
        assert_eq!(taken(&rows, "vicuna"), [global(3)], "{name}");
        assert_eq!(taken(&rows, "advbench"), [global(3)], "{name}");
    }
    let rounds = table(&world, "run", "rounds");
    assert_eq!(rounds["generation_rows"].as_primitive::<UInt64Type>().values(), &[0, 2, 4]);
    let answers = table(&world, "run", "generations");
    let judgements = texts(&answers, "judgement");
    assert_eq!(judgements[..5], ["null", "null", "null", "null", "null"], "nobody judges in a run");
    assert!(judgements[5].starts_with("published rule: "), "{judgements:?}");

    world.run("without", &WITHOUT).succeeded();
    let events = |run: &str| files(&world.path(run).join("ledger/events"));
    assert_eq!(events("run"), events("without"));

    // The answers are in the store under the keys that `eval` looks for.
    let bench = ["--data", "questions", "--bench", "vicuna,advbench", "--limit", "1", "--store", "store", "--dry-run"];
    let said = world.fedreplay(&[&["eval", "run"], &bench[..]].concat()).succeeded();
    assert_eq!(said.stdout.matches("at most 0 to write").count(), 2, "{}", said.stdout);
}

#[test]
fn a_run_that_is_killed_among_its_benchmarks_resumes_and_replays_to_the_same_digest() {
    let world = world();
    let long = ["--set", "rounds=30", "--set", "evaluation.benchmarks.0.every=1"];
    world.run("undisturbed", &long).succeeded();
    let begin = ["run", "scenario.ron", "--out", "run", "--store", "store", "--workers=1"];
    let mut command = world.command(&[&begin[..], &long].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run");
    until_rounds(&mut child, &world.path("run"), "generations", 3);
    child.kill().expect("it is still running");
    child.wait().expect("a child");
    world.fedreplay(&["resume", "run", "--store", "store"]).succeeded();
    assert_eq!(hashed(&world.path("run")), hashed(&world.path("undisturbed")));
    world.fedreplay(&["verify", "run"]).succeeded();
    world.fedreplay(&["replay", "run"]).succeeded();
    world.fedreplay(&["replay", "run", "--round", "3", "--store", "store"]).succeeded();
}

#[test]
fn where_nothing_is_aggregated_each_client_takes_them_with_its_own_model() {
    let world = world();
    world.edit(
        "scenario.ron",
        "(clients_per_round: 2, over_selection: 2, deadline: \"10m\")",
        "(clients_per_round: 6)",
    );
    let local = ["--set", "algorithm=Local", "--set", "rounds=2"];
    world.run("run", &local).succeeded();
    let rows = table(&world, "run", "evaluations");
    let takers = taken(&rows, "mmlu");
    assert!(takers.len() > 1, "{takers:?}");
    assert!(takers.iter().all(|(round, subject, client)| *round == 2 && subject == "local" && client.is_some()));
    let losses = taken(&rows, "losses");
    let measured: Vec<_> = losses.into_iter().filter(|(round, subject, _)| *round == 2 && subject == "local").collect();
    assert_eq!(takers, measured, "whoever has a model of its own");
    let hashes = texts(&rows, "model_hash");
    let of = |client: u32, benchmark: &str| {
        let names = texts(&rows, "benchmark");
        let clients = rows["client"].as_primitive::<UInt32Type>();
        let row = (0..rows.num_rows()).rposition(|row| names[row] == benchmark && clients.value(row) == client);
        hashes[row.expect("a row")].clone()
    };
    for (_, _, client) in &takers {
        assert_eq!(of(client.unwrap(), "mmlu"), of(client.unwrap(), "losses"));
    }
    world.fedreplay(&["replay", "run"]).succeeded();
    world.fedreplay(&["replay", "run", "--round", "2", "--store", "none"]).succeeded();
}

#[test]
fn what_a_run_never_does_is_refused_with_what_does_it() {
    let world = world();
    let schedule = |name: &str| format!("evaluation.benchmarks.1.name={name}");
    world
        .run("run", &["--set", &schedule("humaneval")])
        .refused(2, &["never does", "fedreplay eval RUN --bench humaneval"]);
    world.run("run", &["--set", &schedule("vicunna")]).refused(2, &["did you mean `vicuna`"]);
    world.run("run", &["--set", &schedule("mt-bench")]).refused(2, &["mt-bench/question.jsonl"]);
    assert!(!world.path("run").exists(), "a refused scenario left a folder");
}
