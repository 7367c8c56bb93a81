//! The page of queries: each runs on ledgers of the quickstart, and gives what the page says.

use std::process::Command;

use super::support::{Said, World, not_run, project};

/// Plays what the page asks for: whole schedules, and trainings that are cut short, of which the page prints no result.
fn play(world: &World) {
    let scenario = project("scenarios/quickstart.ron");
    let scenario = scenario.to_str().expect("UTF-8");
    let fedreplay = |command: &str, out: &str, sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let arguments: Vec<&str> = [command, scenario, "--out", out].into_iter().chain(sets).collect();
        world.fedreplay(&arguments).succeeded();
    };
    fedreplay("plan", "runs/plan", &[]);
    fedreplay("plan", "runs/patient", &["server.protocol.Synchronous.deadline=None"]);
    fedreplay("run", "runs/quickstart", &["rounds=2", "evaluation.local_baseline=false"]);
    for seed in ["1", "2", "3"] {
        for method in ["FedAvg", "Scaffold"] {
            let (seeded, algorithm) = (format!("seed={seed}"), format!("algorithm={method}"));
            let of_page = [&seeded, &algorithm, "training.optimizer=Sgd", "training.lr=0.2"];
            let short = ["rounds=2", "training.local_steps=2", "evaluation.every=2", "data.held_out=0"];
            let short = [&short[..], &["evaluation.local_baseline=false"]].concat();
            fedreplay("run", &format!("runs/{method}-{seed}"), &[&of_page[..], &short].concat());
        }
    }
}

#[test]
fn every_query_of_the_page_gives_what_the_page_says() {
    let python = project(".venv-analysis/bin/python");
    if !python.exists() {
        not_run("the queries of docs/analysis.md", "`make analysis` installs DuckDB, Polars and pandas");
        return;
    }
    let world = World::new();
    play(&world);
    let page = |name: &str| {
        let mut command = Command::new(&python);
        command.arg(project("tests/analysis/run.py")).arg(world.path(name)).current_dir(world.path("."));
        Said::of(command.output().expect("Python can be run"))
    };
    let text = std::fs::read_to_string(project("docs/analysis.md")).expect("the page is there");
    world.write("analysis.md", &text);
    let said = page("analysis.md");
    assert_eq!(said.code, Some(0), "{}\n{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("10 questions answered"), "{}", said.stdout);
    // A page that says something else is found out.
    world.write("wrong.md", &text.replace("deadline  12      91", "deadline  12      92"));
    assert_eq!(page("wrong.md").code, Some(1), "a wrong figure passed");
}
