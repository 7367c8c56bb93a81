//! Help with scenarios: what is checked, explained and written, and the references that are generated.

use std::fs;

use arrow::array::AsArray;
use arrow::datatypes::UInt32Type;
use fedreplay::ledger::read_table;

use super::support::{World, project};

#[test]
fn check_prints_what_is_resolved_and_what_it_costs() {
    let world = World::new();
    let said = world.fedreplay(&["scenario", "check", "scenario.ron", "--json"]).succeeded();
    for part in
        ["max_grad_norm: 1.0", "tasks           ", "simulated time  0:", "memory          ", "wall clock      about "]
    {
        assert!(said.stdout.contains(part), "`{part}` is not in:\n{}", said.stdout);
    }
    let line: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
    let plan = world.fedreplay(&["plan", "scenario.ron", "--json"]).succeeded();
    let plan: serde_json::Value = serde_json::from_str(plan.stdout.lines().last().expect("a line")).expect("JSON");
    assert_eq!(line["plan"]["simulated_ns"], plan["simulated_ns"]);
    assert!(line["forecast"]["training_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert!(!world.path("runs").exists(), "nothing was to run");
    world.edit("scenario.ron", "local_steps", "local_step");
    world.fedreplay(&["scenario", "check", "scenario.ron"]).refused(2, &["did you mean `local_steps`?"]);
}

#[test]
fn explain_answers_with_unit_range_default_or_the_nearest_name() {
    let world = World::new();
    let said = world.fedreplay(&["scenario", "explain", "server.protocol.Synchronous.deadline"]).succeeded();
    for part in ["A round's longest duration", "unit     time", "default  None", "1m30s"] {
        assert!(said.stdout.contains(part), "`{part}` is not in:\n{}", said.stdout);
    }
    world.fedreplay(&["scenario", "explain", "training.lrr"]).refused(2, &["did you mean `lr`?"]);
}

#[test]
fn a_new_scenario_plays_as_it_is() {
    let world = World::new();
    let new = |more: &[&str]| world.fedreplay(&[&["scenario", "new", "study/mine.ron"], more].concat());
    fs::create_dir(world.path("study")).expect("a writable folder");
    new(&[]).refused(2, &["fixtures/tiny-base", "--model"]);
    new(&["--model", "base", "--data", "data.json"]).succeeded();
    new(&["--model", "base", "--data", "data.json"]).refused(2, &["there already"]);
    let arguments = ["run", "study/mine.ron", "--store", "none", "--set", "rounds=1", "--out", "run"];
    world.fedreplay(&arguments).succeeded();
    world
        .fedreplay(&["scenario", "new", "bad.ron", "--model", "base", "--data", "scenario.ron"])
        .refused(2, &["scenario.ron"]);
    assert!(!world.path("bad.ron").exists(), "what does not play was left");
}

/// As the comment of the scenario has it: the fourth class, three phones of ten, is asked, and most of its tasks are called off.
#[test]
fn the_slowest_of_a_million_phones_are_asked_and_mostly_called_off() {
    let world = World::new();
    let file = project("scenarios/system/million-clients.ron").display().to_string();
    let fewer = ["--set", "rounds=1", "--set", "data.synthetic.clients=20000", "--detail", "tasks", "--out", "plan"];
    world.fedreplay(&[&["plan", &file], &fewer[..]].concat()).succeeded();
    let population = read_table(&world.path("plan"), "population").expect("a table");
    let devices = population["device"].as_string::<i32>();
    let tasks = read_table(&world.path("plan"), "tasks").expect("a table");
    let fates = tasks["fate"].as_string::<i32>();
    let mut own = Vec::new();
    for (task, client) in tasks["client"].as_primitive::<UInt32Type>().values().iter().enumerate() {
        if devices.value(*client as usize) == "mid-range-phone-8gb" {
            own.push(fates.value(task));
        }
    }
    let share = own.len() as f64 / tasks.num_rows() as f64;
    assert!((share - 0.3).abs() < 0.05, "{share} of the tasks");
    assert!(2 * own.iter().filter(|fate| **fate == "cancelled").count() > own.len(), "{own:?}");
}

#[test]
fn generated_pages_are_current() {
    let world = World::new();
    let pages = [
        ("scenario-reference", "docs/scenario.md"),
        ("ledger-reference", "docs/ledger.md"),
        ("method-combinations", "docs/methods/combinations.md"),
    ];
    for (what, page) in pages {
        let said = world.fedreplay(&["generate", what]).succeeded();
        let found = fs::read_to_string(project(page)).unwrap_or_default();
        assert!(found == said.stdout, "{page} is not what the program says; `make docs` writes it anew");
    }
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = world.fedreplay(&["generate", "completions", shell]).succeeded();
        assert!(said.stdout.contains("tensorboard") || shell == "powershell" || shell == "elvish", "{shell}");
        assert!(said.stdout.contains("resume") && said.stdout.contains("scenario"), "{shell}");
    }
    let page = world.fedreplay(&["generate", "man"]).succeeded();
    assert!(page.stdout.contains(".TH fedreplay 1"), "{}", page.stdout);
    world.fedreplay(&["generate", "man", "--out", "man"]).succeeded();
    assert!(world.path("man/fedreplay-scenario-check.1").is_file());
}

/// Every cell of the sweeps that docs have tables of, for one round of three steps, of which FedRep trains its own layers in two.
#[test]
fn the_sweeps_of_the_docs_play() {
    let world = World::new();
    let sweeps = [("federated-lora/methods.ron", 22), ("compression/codecs.ron", 9), ("robust/rules.ron", 10)];
    for (sweep, variants) in sweeps {
        let file = project("scenarios").join(sweep).display().to_string();
        let sets = ["--set", "rounds=1", "--set", "training.local_steps=3", "--seeds", "1"];
        let out = sweep.replace('/', "-");
        let command = ["sweep", &file, "--out", &out, "--store", "store", "--json"];
        let said = world.fedreplay(&[&command[..], &sets].concat()).succeeded();
        let scenarios = if sweep.starts_with("federated-lora") { 2 } else { 1 };
        let last = format!("[CELL {0}/{0}]", scenarios * variants);
        assert!(said.stdout.contains(&last) || said.stderr.contains(&last), "{last} is not in:\n{}", said.stdout);
    }
}
