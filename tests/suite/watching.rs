//! What is told while a command works: plain lines, a JSON log, no colour where nobody asked for it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::support::{Said, World};

/// Says whether a text holds codes for terminals.
fn has_codes(text: &str) -> bool {
    text.contains('\u{1b}') || text.contains('\r')
}

fn run_with(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = world.command(&[&["run", "scenario.ron", "--store", "none", "--out"], arguments].concat());
    command.envs(variables.iter().copied());
    Said::of(command.output().expect("the binary can be run"))
}

#[test]
fn plain_progress_says_what_how_far_and_how_it_went() {
    let world = World::new();
    let said = world.run("run", &[]).succeeded();
    let rounds: Vec<&str> = said.stderr.lines().filter(|line| line.starts_with("[ROUND ")).collect();
    assert_eq!(rounds.len(), 3, "{}", said.stderr);
    for (place, line) in (1..).zip(&rounds) {
        assert!(line.starts_with(&format!("[ROUND {place}/3] closed at 0:")), "{line}");
        for part in [" clients: ", " counted, ", "train loss ", " down, "] {
            assert!(line.contains(part), "`{part}` is not in {line}");
        }
    }
    assert!(said.stdout.lines().all(|line| !line.starts_with("[ROUND")), "progress is on stdout:\n{}", said.stdout);
}

#[test]
fn no_codes_of_terminals_go_where_there_is_none() {
    let world = World::new();
    for variables in [&[][..], &[("NO_COLOR", "1")], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[("TERM", "dumb")]]
    {
        let said = run_with(&world, &["run"], variables).succeeded();
        assert!(!has_codes(&said.stdout) && !has_codes(&said.stderr), "{variables:?}:\n{}{}", said.stdout, said.stderr);
        for command in
            [&["show", "run"][..], &["ls", "."], &["tail", "run"], &["verify", "run"], &["show", "nothing"], &["run"]]
        {
            let mut command = world.command(command);
            let said = Said::of(command.envs(variables.iter().copied()).output().expect("the binary can be run"));
            assert!(
                !has_codes(&said.stdout) && !has_codes(&said.stderr),
                "{variables:?}:\n{}{}",
                said.stdout,
                said.stderr
            );
        }
        fs::remove_dir_all(world.path("run")).expect("a run");
    }
}

/// The lines of a JSON log, each with the fields that a reader may count on.
#[track_caller]
fn log(said: &Said) -> Vec<Value> {
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}"));
        for field in ["timestamp", "level", "target"] {
            assert!(value[field].is_string(), "no {field} in {line}");
        }
        assert!(value["fields"]["message"].is_string(), "no message in {line}");
        value
    };
    said.stderr.lines().map(line).collect()
}

#[test]
fn every_line_of_a_json_log_is_an_object_of_known_fields() {
    let world = World::new();
    let said = world.fedreplay(&["--log-format", "json", "run", "scenario.ron", "--store", "none", "--out", "run"]);
    let lines = log(&said.succeeded());
    let fields: BTreeSet<&str> =
        lines.iter().flat_map(|line| line.as_object().expect("an object").keys()).map(String::as_str).collect();
    let known = BTreeSet::from(["timestamp", "level", "target", "fields"]);
    assert!(fields.is_subset(&known), "{fields:?}");
    let progress: Vec<&Value> = lines.iter().filter(|line| line["target"] == "fedreplay::progress").collect();
    let scheduled = progress.iter().find(|line| line["fields"]["rounds"] == 3);
    assert!(scheduled.is_some_and(|line| line["fields"]["tasks"].is_u64()), "{lines:?}");
    let rounds = progress
        .iter()
        .filter(|line| line["fields"]["message"].as_str().is_some_and(|text| text.starts_with("[ROUND ")));
    assert_eq!(rounds.count(), 3, "{lines:?}");

    // What goes wrong is told in the same form, a warning too.
    let refused = world.fedreplay(&["--log-format", "json", "run", "nothing.ron"]);
    assert_eq!(refused.code, Some(2));
    let lines = log(&refused);
    assert!(lines.iter().any(|line| line["level"] == "ERROR" && line.to_string().contains("nothing.ron")), "{lines:?}");
    let checked = world.fedreplay(&[
        "--log-format",
        "json",
        "scenario",
        "check",
        "scenario.ron",
        "--no-trial",
        "--set",
        "algorithm=Scaffold()",
        "--set",
        "training.optimizer=AdamW()",
    ]);
    let lines = log(&checked.succeeded());
    assert!(lines.iter().any(|line| line["level"] == "WARN" && line.to_string().contains("SCAFFOLD")), "{lines:?}");
}

#[test]
fn the_log_tells_more_where_it_is_asked_to() {
    let world = World::new();
    let quiet = world.run("quiet", &[]).succeeded();
    let loud = world.run("loud", &["-v"]).succeeded();
    assert!(!quiet.stderr.contains(" INFO "), "{}", quiet.stderr);
    assert!(loud.stderr.contains(" INFO ") && loud.stderr.contains("base model"), "{}", loud.stderr);
    let chosen = run_with(&world, &["chosen"], &[("RUST_LOG", "fedreplay::run=info")]).succeeded();
    assert!(chosen.stderr.contains("base model"), "{}", chosen.stderr);
}
