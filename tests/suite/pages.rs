//! The pages of docs/ keep what they say: their commands are known, and the tutorial's own data plays.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::evaluation::question;
use super::support::{Said, World, project};

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(project("docs")).expect("a readable folder").map(|entry| entry.expect("an entry").path());
    docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")).chain([project("README.md")]).collect()
}

/// A command of the Python package alone, which `make wheel-test` runs.
const OF_THE_PACKAGE: &str = "fedreplay quickstart";

/// The commands of a page's blocks, continued lines joined.
fn commands(page: &str) -> Vec<String> {
    let joined = page.replace("\\\n>", " ").replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim_start_matches("$ ").trim_start_matches("> ").trim());
    let ours = lines.filter(|line| line.starts_with("fedreplay ") && !line.starts_with(OF_THE_PACKAGE));
    ours.map(|line| line.split("  #").next().expect("a first part").to_owned()).collect()
}

#[test]
fn every_command_of_a_page_is_one_that_the_program_knows() {
    let world = World::new();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_fedreplay"));
    let search = format!("{}:/usr/bin:/bin", binary.parent().expect("a folder").display());
    let help = |command: &str| {
        let mut shell = Command::new("sh");
        let line = format!("seed=1 method=FedAvg; {command} --help");
        shell.args(["-c", &line]).current_dir(world.path(".")).env("PATH", &search);
        Said::of(shell.output().expect("a shell"))
    };
    let mut seen = BTreeSet::new();
    for page in pages() {
        for command in commands(&fs::read_to_string(&page).expect("a page")) {
            if !seen.insert(command.clone()) {
                continue;
            }
            let said = help(&command);
            assert_eq!(said.code, Some(0), "{}: `{command}`\n{}", page.display(), said.stderr);
        }
    }
    assert!(seen.len() > 40, "{} commands were found", seen.len());
    assert_ne!(help("fedreplay run x.ron --no-such-option").code, Some(0));
}

/// The last line of what a command said, as JSON.
fn last_line(said: &Said) -> Value {
    serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON")
}

/// Names of an object's values, and of the objects in it and in its lists.
fn names(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                found.push(name.clone());
                names(field, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|one| names(one, found)),
        _ => {}
    }
}

/// What `scenario check`, `plan`, `data inspect` and `show` compute is in docs/figures.md, by the names that scripts read.
#[test]
fn every_figure_of_a_plan_a_forecast_a_dataset_and_a_curve_has_its_formula() {
    // What is no figure, or the part of one that has its formula under its own name.
    const OTHERS: [&str; 10] =
        ["run", "digest", "name", "memory", "mean", "deviation", "min", "max", "length_unit", "synthetic_twin_of"];
    let world = World::new();
    fs::create_dir_all(world.path("questions/vicuna")).expect("a writable folder");
    world.write("questions/vicuna/question.jsonl", &question(1, "What is one?"));
    let benchmark = "evaluation.benchmarks=[(name: \"vicuna\")]";
    let sets = ["--set", "evaluation.questions=questions", "--set", benchmark, "--set", "rounds=1"];
    let checked = world.fedreplay(&[&["scenario", "check", "scenario.ron", "--json"], &sets[..]].concat()).succeeded();
    let checked = last_line(&checked);
    let inspected = last_line(&world.fedreplay(&["data", "inspect", "data.json", "--json"]).succeeded());
    world.run("run", &sets).succeeded();
    let shown = last_line(&world.fedreplay(&["show", "run", "--json"]).succeeded());
    let mut found = Vec::new();
    for part in ["plan", "forecast"] {
        let mut part = checked[part].clone();
        part["outcomes"] = Value::Null;
        names(&part, &mut found);
    }
    names(&inspected, &mut found);
    for curve in shown["series"].as_array().expect("curves") {
        let name = curve["name"].as_str().expect("a name");
        found.push(if name.starts_with("score/") { "score/NAME".into() } else { name.to_owned() });
    }
    assert!(found.len() > 50, "{found:?}");
    let page = fs::read_to_string(project("docs/figures.md")).expect("the page is there");
    let is_missing = |name: &String| !OTHERS.contains(&name.as_str()) && !page.contains(&format!("`{name}`"));
    found.retain(is_missing);
    assert!(found.is_empty(), "docs/figures.md lacks {found:?}");
}

#[test]
fn the_tutorials_own_data_plays() {
    let world = World::new();
    let page = fs::read_to_string(project("docs/tutorial.md")).expect("the page is there");
    let data = page.split("```ron\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of RON");
    fs::create_dir(world.path("study")).expect("a writable folder");
    let rows: Vec<_> = (1..40)
        .flat_map(|a| (1..6).map(move |b| (a, b)))
        .map(|(a, b)| {
            let (question, answer, tens) =
                (format!("What is {a} plus {b}?"), (a + b).to_string(), (a / 10).to_string());
            serde_json::json!({ "question": question, "answer": answer, "tens": tens })
        })
        .collect();
    world.write("study/sums.json", &serde_json::Value::from(rows).to_string());
    let new = |file: &str, data: &str| world.fedreplay(&["scenario", "new", file, "--model", "base", "--data", data]);
    new("study/sums.ron", "study/sums.json").refused(2, &["instruction"]);
    new("study/sums.ron", "data.json").succeeded();
    let text = fs::read_to_string(world.path("study/sums.ron")).expect("the file is there");
    let (from, after) =
        (text.find("    data: (").expect("a section"), text.find("    training: (").expect("a section"));
    world.write("study/sums.ron", &format!("{}{data}{}", &text[..from], &text[after..]));
    world.fedreplay(&["scenario", "check", "study/sums.ron", "--no-trial"]).succeeded();
    let arguments = ["run", "study/sums.ron", "--store", "none", "--set", "rounds=1", "--out", "run"];
    world.fedreplay(&arguments).succeeded();
}
