//! The pages of docs/ keep what they say: their commands are known, and the tutorial's own data plays.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::support::{Said, World, project};

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(project("docs")).expect("a readable folder").map(|entry| entry.expect("an entry").path());
    docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")).chain([project("README.md")]).collect()
}

/// The commands of a page's blocks, continued lines joined.
fn commands(page: &str) -> Vec<String> {
    let joined = page.replace("\\\n>", " ").replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim_start_matches("$ ").trim_start_matches("> ").trim());
    let ours = lines.filter(|line| line.starts_with("fedreplay "));
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
    let mut seen = 0;
    for page in pages() {
        for command in commands(&fs::read_to_string(&page).expect("a page")) {
            let said = help(&command);
            assert_eq!(said.code, Some(0), "{}: `{command}`\n{}", page.display(), said.stderr);
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} commands were found");
    assert_ne!(help("fedreplay run x.ron --no-such-option").code, Some(0));
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
