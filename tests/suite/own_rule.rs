//! Aggregation rules of one's own: their models are those of the formulas, a run with one can be continued and repeated, and what
//! a rule must not do ends the run with its name.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fedreplay::algorithm::{AggregationRule, RuleError, RuleInput, RuleOutput};
use fedreplay::inputs::OwnRules;
use fedreplay::ledger::Manifest;
use fedreplay::run::{RunOptions, run};
use fedreplay::scenario::Scenario;
use fedreplay::store::Store;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::federated_lora::MIXED;
use super::methods::{PROTOCOLS, scenario};
use super::recomputed::{self, Optimizer, minus};
use super::support::{Said, World, files, not_run, project};

/// Returns Python with numpy; `None`, with a message, if it is not installed.
pub(super) fn python() -> Option<String> {
    let python = project(".venv-analysis/bin/python");
    if !python.exists() {
        not_run("rules in Python", "`make analysis` installs numpy");
        return None;
    }
    Some(python.display().to_string())
}

/// A world with a rule, and a scenario of two rounds that names it.
fn world(rule: &str, algorithm: &str, protocol: &str) -> World {
    let world = World::new();
    world.write("rule.py", rule);
    world.write("scenario.ron", &scenario(algorithm, protocol));
    world
}

fn fedavgm() -> String {
    fs::read_to_string(project("scenarios/own-rule/fedavgm.py")).expect("the example is there")
}

/// Plays the scenario of a world with `python`.
fn play(world: &World, python: &str, out: &str, more: &[&str]) -> Said {
    let arguments = ["run", "scenario.ron", "--out", out, "--store", "store", "--python", python];
    world.fedreplay(&[&arguments[..], more].concat())
}

/// The mean, written by hand.
pub(super) const MEAN: &str = "def aggregate(server, updates, weights, ranks, staleness, state):
    model = {}
    for name in server:
        model[name] = server[name] + sum(weight * update[name] for weight, update in zip(weights, updates))
    return model, None
";

const SYNCHRONOUS: &str = PROTOCOLS[0].1;
const RULE: &str = r#"Python(file: "rule.py")"#;

#[test]
fn rules_in_python_give_the_models_of_their_formulas_under_every_protocol() {
    let Some(python) = python() else { return };
    for (name, protocol) in PROTOCOLS {
        let world = world(&fedavgm(), RULE, protocol);
        let said = play(&world, &python, "momentum", &[]);
        if name == "asynchronous" {
            said.refused(2, &["server.protocol", "FedAsync mixes models", "Buffered"]);
            continue;
        }
        said.succeeded();
        let mut optimizer = Optimizer::new("FedAvgM");
        let models = recomputed::check(&world.path("momentum"), &world.path("store"), name, &mut optimizer);
        assert!(models >= 2, "{models} models under {name}");
    }
}

/// The same sums in the same order as FedReplay's own mean.
#[test]
fn the_mean_in_python_has_the_bits_of_the_mean() {
    let Some(python) = python() else { return };
    // With a decoded model, an update is against that.
    for set in ["name=plain", "server.downlink_codec=Int8"] {
        let world = world(MEAN, RULE, SYNCHRONOUS);
        play(&world, &python, "own", &["--set", set]).succeeded();
        play(&world, &python, "mean", &["--set", set, "--set", "algorithm=FedAvg"]).succeeded();
        let models = |out: &str| recomputed::models(&world.path(out), &world.path("store"));
        assert_eq!(models("own"), models("mean"), "{set}");
        assert_eq!(models("own").len(), 3);
    }
}

/// The state goes through the store; a fork goes on from it, and a replay computes all of it again.
#[test]
fn a_run_with_a_rule_is_resumed_replayed_and_forked() {
    let Some(python) = python() else { return };
    let world = world(&fedavgm(), RULE, SYNCHRONOUS);
    let sets = ["--set", "rounds=4"];
    play(&world, &python, "whole", &sets).succeeded();
    assert_eq!(Manifest::read(&world.path("whole")).expect("a manifest").grade, "A");
    let again = ["replay", "whole", "--python", &python];
    world.fedreplay(&again).succeeded();
    let unasked = ["rule.py", "it is a program", "--python names"];
    world.fedreplay(&again[..2]).refused(2, &unasked);
    let fork = ["fork", "whole", "--at-round", "3", "--set", "training.lr=0.02", "--out", "fork", "--python", &python];
    world.fedreplay(&fork[..8]).refused(2, &unasked);
    for part in [&["--round", "3"][..], &["--round", "4"]] {
        world.fedreplay(&[&again[..], part].concat()).succeeded();
    }
    world.fedreplay(&[&fork[..], &["--store", "store"]].concat()).succeeded();
    let models = |out: &str| recomputed::models(&world.path(out), &world.path("store"));
    let (whole, fork) = (models("whole"), models("fork"));
    assert_eq!((&whole[&2], whole[&3] == fork[&3]), (&fork[&2], false));
    // What was computed of another rule is not found again.
    world.write("rule.py", &fedavgm().replace("0.9", "0.8"));
    play(&world, &python, "other", &sets).succeeded();
    assert_ne!(models("other")[&2], whole[&2]);
    let said = world.fedreplay(&again);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stdout.contains("the rule at"), "{}", said.stdout);
}

/// Ends by itself in its second call; the call is in the state, and the file tells whether it may go on.
#[test]
fn a_run_that_its_rule_has_ended_goes_on_with_the_same_bits() {
    let Some(python) = python() else { return };
    let rule = "import os
import time

def aggregate(server, updates, weights, ranks, staleness, state):
    calls = int(state.get('calls', 0)) + 1
    if calls == 2 and os.path.exists('slow'):
        time.sleep(60)
    model = {name: matrix + calls * updates[0][name] for name, matrix in server.items()}
    return model, {'calls': calls}
";
    let world = world(rule, r#"Python(file: "rule.py", time_limit: 4, check_every: 1)"#, SYNCHRONOUS);
    let sets = ["--set", "rounds=3"];
    let whole = play(&world, &python, "whole", &sets).succeeded().summary("digest").to_owned();
    world.write("slow", "");
    let arguments =
        ["run", "scenario.ron", "--out", "ended", "--store", "other", "--python", &python, "--set", "rounds=3"];
    world.fedreplay(&arguments).refused(2, &["rule.py", "longer than 4 s", "algorithm.time_limit"]);
    fs::remove_file(world.path("slow")).expect("it is there");
    let resume = ["resume", "ended", "--store", "other", "--python", &python];
    world.fedreplay(&resume[..4]).refused(2, &["rule.py", "--python names"]);
    let longer = [&resume[..], &["--set", "algorithm.Python.time_limit=100"]].concat();
    let resumed = world.fedreplay(&longer).succeeded();
    assert_eq!(resumed.summary("digest"), whole);
}

/// Returns the first component of an adapter of rank 2, with zeros in the place of the second.
fn first_component(values: &[f64], matrices: &[usize]) -> Vec<f64> {
    let mut found = values.to_vec();
    let mut start = 0;
    for pair in matrices.chunks_exact(2) {
        found[start + pair[0] / 2..start + pair[0]].fill(0.0);
        let b = &mut found[start + pair[0]..start + pair[0] + pair[1]];
        b.iter_mut().skip(1).step_by(2).for_each(|value| *value = 0.0);
        start += pair[0] + pair[1];
    }
    found
}

#[test]
fn clients_of_lower_rank_give_a_rule_zeros_beyond_it() {
    let Some(python) = python() else { return };
    let rule = "import numpy as np

def aggregate(server, updates, weights, ranks, staleness, state):
    assert sorted(set(ranks.tolist())) == [1, 2], ranks
    model = {name: matrix.copy() for name, matrix in server.items()}
    for weight, update, rank in zip(weights, updates, ranks):
        for name, matrix in model.items():
            beyond = update[name][rank:] if 'lora_A' in name else update[name][:, rank:]
            assert not beyond.any()
            matrix += weight * update[name]
    return model, None
";
    let world = world(rule, r#"Python(file: "rule.py", weights: Uniform)"#, SYNCHRONOUS);
    play(&world, &python, "own", &[&MIXED[..], &["--set", "seed=1"]].concat()).succeeded();
    let (run, store) = (world.path("own"), world.path("store"));
    let (models, matrices) = (recomputed::models(&run, &store), recomputed::matrices(&run, &store));
    let trainings = recomputed::trainings(&run, &store);
    for version in [1, 2] {
        let before = &models[&(version - 1)];
        let counted: Vec<_> = trainings.iter().filter(|training| training.counted_in == version).collect();
        let (mut change, mut smaller) = (vec![0.0; before.len()], 0);
        for training in &counted {
            let is_small = training.adapter == first_component(&training.adapter, &matrices);
            let start = if is_small { first_component(before, &matrices) } else { before.clone() };
            smaller += usize::from(is_small);
            for (sum, value) in change.iter_mut().zip(minus(&training.adapter, &start)) {
                *sum += value / counted.len() as f64;
            }
        }
        assert!((1..counted.len()).contains(&smaller), "{smaller} of lower rank");
        recomputed::assert_moved(&models[&version], before, &change);
    }
    world.fedreplay(&["replay", "own", "--python", &python]).succeeded();
    play(&world, &python, "other", &[&MIXED[..], &["--set", "federated_lora=FfaLora"]].concat())
        .refused(2, &["model.lora.ranks", "FFA-LoRA has one rank"]);
}

/// Each call begins with what the process was after loading, so that a generator of the module draws the same in each, whether the run
/// is one process or two. Packages with modules of their own, classes in functions and helpers are no fault.
#[test]
fn nothing_but_the_state_lasts_from_call_to_call() {
    let Some(python) = python() else { return };
    let rule = "import numpy as np
import pandas as pd
import polars as pl

np.random.seed(0)

def helper(values, power=2, kind=float):
    class Box:
        size = 2
        double = 2 * size
    return values.astype(kind) ** power * Box.double

def aggregate(server, updates, weights, ranks, staleness, state, rate=1e-3):
    assert isinstance(np.nan, float) and len(pd.DataFrame({'a': weights})) == len(pl.Series(weights))
    np.kept = getattr(np, 'kept', 0) + 1
    draw = np.random.rand() + np.kept
    rounds = state.get('rounds', 0) + 1
    model = {name: matrix + rate * draw * rounds + 0 * helper(matrix) for name, matrix in server.items()}
    return model, {'rounds': rounds}
";
    let world = world(rule, r#"Python(file: "rule.py", check_every: 1, parameters: { "rate": 0.002 })"#, SYNCHRONOUS);
    let sets = ["--set", "rounds=3"];
    let whole = play(&world, &python, "whole", &sets).succeeded().summary("digest").to_owned();
    let models = recomputed::models(&world.path("whole"), &world.path("store"));
    // The first number of numpy's generator with the seed 0, and one call.
    let draw = 0.548_813_503_927_324_7 + 1.0;
    for version in [1, 2, 3] {
        for (after, before) in models[&version].iter().zip(&models[&(version - 1)]) {
            let expected = before + 0.002 * draw * version as f64;
            assert!((after - expected).abs() < 1e-6, "{after} for {expected}");
        }
    }
    // How it is watched changes no digest, and where its file lies neither.
    world.write("other.py", rule);
    let other = r#"algorithm=Python(file: "other.py", time_limit: 60, parameters: { "rate": 0.002 })"#;
    let again = play(&world, &python, "again", &[&sets[..], &["--set", other]].concat()).succeeded();
    assert_eq!(again.summary("digest"), whole);
    let parameter = "algorithm.Python.parameters.rate=0.003";
    let other = play(&world, &python, "other", &[&sets[..], &["--set", parameter]].concat()).succeeded();
    assert_ne!(other.summary("digest"), whole);
    let manifest = Manifest::read(&world.path("whole")).expect("a manifest");
    let packages = manifest.inputs["rule_packages"].path.display().to_string();
    assert!(["numpy", "pandas", "polars"].iter().all(|name| packages.contains(name)), "{packages}");
}

/// What a rule must not do, as the text of its file, and what the error says.
#[test]
fn what_a_rule_must_not_do_ends_the_run_with_its_name() {
    let Some(python) = python() else { return };
    let body = |lines: &str| {
        format!("import numpy as np\n\ndef aggregate(server, updates, weights, ranks, staleness, state):\n{lines}")
    };
    let first = "    name = next(iter(server))\n";
    let cases = [
        (body("    return server"), "a value of the type dict, and must return the pair"),
        (body("    pass"), "returned nothing (None)"),
        (body("    return server, state, 1"), "a tuple of 3"),
        (body("    return [], state"), "a value of the type list"),
        (body("    raise ValueError('too few')"), "line 4, in aggregate\n    raise ValueError('too few')"),
        (body("    raise SystemExit(0)"), "SystemExit: 0"),
        (body(&format!("{first}    del server[name]\n    return server, state")), "lacks base_model.model."),
        (
            body("    server['more'] = np.zeros(2)\n    return server, state"),
            "has 'more', which `server` does not have",
        ),
        (
            body(&format!("{first}    server[name] = server[name].T\n    return server, state")),
            "has the shape (128, 2), not (2, 128)",
        ),
        (body(&format!("{first}    server[name][0, 0] = np.nan\n    return server, state")), "is not finite"),
        (body(&format!("{first}    server[name][0, 0] = 1e39\n    return server, state")), "which is no finite f32"),
        (body(&format!("{first}    server[name] = 'text'\n    return server, state")), "must be an array of numbers"),
        (
            body(&format!("{first}    server[name] = server[name] * 1j\n    return server, state")),
            "must be an array of numbers",
        ),
        (body("    return server, 3"), "the state that it returned is a value of the type int"),
        (body("    return server, {1: np.zeros(1)}"), "has the key 1, which is no text"),
        (body("    return server, {'a': [[1], [1, 2]]}"), "'a' of the state that it returned is no array"),
        (
            body("    print('hello')\n    return server, state"),
            "writes to standard output, which is the run's ('hello\\n')",
        ),
        (body("    import os\n    os.system('echo hi')\n    return server, state"), "writes to standard output"),
        (body("    while True: pass"), "longer than 5 s"),
        (
            body("    server[next(iter(server))] += np.random.rand()\n    return server, state"),
            "a second process gave other bits",
        ),
        // The first call of each process gives the same number.
        (
            format!(
                "import numpy as np\nnp.random.seed(0)\n{}",
                body(
                    "    server[next(iter(server))] += len(state) + np.random.default_rng().random()\n    return server, state"
                )
            ),
            "a second process gave other bits",
        ),
        (
            format!("from math import sqrt\n{}", body("    return sqrt(2), state")),
            "import the module, and write it before the name (math.sqrt)",
        ),
        (body("    import pandas\n    return server, state"), "import them at the top of the file"),
        (body("    return np.ma.masked_array([1.0], [True]), state"), "a value of the type MaskedArray"),
        (
            body(
                "    server[next(iter(server))] = np.ma.masked_array(server[next(iter(server))])\n    return server, state",
            ),
            "must be an array of numbers",
        ),
        ("def mean(): pass".into(), "it has no function `aggregate`"),
        ("aggregate = print".into(), "it has no function `aggregate`"),
        (
            "def aggregate(server, updates): pass".into(),
            "does not take (server, updates, weights, ranks, staleness, state)",
        ),
        ("def aggregate(:".into(), "SyntaxError"),
        ("import no_such_package".into(), "No module named 'no_such_package'"),
        (
            format!("RATE = 0.5\n{}", body("    return RATE, state")),
            "reads the name `RATE`, which is neither a module nor",
        ),
        (
            format!("seen = []\n{}", body("    return helper(), state\n\ndef helper():\n    return seen")),
            "line 8: `helper` (line 7) reads the name `seen`",
        ),
        (body("    global kept\n    kept = 1\n    return server, state"), "sets the name `kept` of the file"),
        (body("    return unknown, state"), "reads the name `unknown`, which is defined nowhere"),
        (
            "def aggregate(server, updates, weights, ranks, staleness, state, seen=[]): pass".into(),
            "has a default that is no constant",
        ),
        ("import os\nos.write(1, b'x')\ndef aggregate(*given): pass".into(), "writes to standard output"),
    ];
    for (rule, expected) in cases {
        let world = world(&rule, r#"Python(file: "rule.py", time_limit: 5)"#, SYNCHRONOUS);
        let said = play(&world, &python, "out", &["--workers", "1"]);
        assert_eq!(said.code, Some(2), "{rule}\n{}", said.stderr);
        assert!(
            said.stderr.contains("rule.py") && said.stderr.contains(expected),
            "{expected}\n{rule}\n{}",
            said.stderr
        );
    }
}

#[test]
fn what_is_wrong_before_a_rule_is_called_is_named() {
    let world = world(MEAN, RULE, SYNCHRONOUS);
    let refused = |sets: &[&str], parts: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        play(&world, "python3", "out", &sets).refused(2, parts);
        assert!(!world.path("out").exists(), "{parts:?}");
    };
    let said = play(&world, "python3", "out", &["--set", r#"algorithm=Python(file: "absent.py")"#]);
    said.refused(1, &["absent.py", "No such file"]);
    refused(&[r#"algorithm=Custom(name: "mine")"#], &["rule `mine`", "RunOptions::rules"]);
    refused(&["algorithm.Python.check_every=0"], &["check_every", "at least 1"]);
    refused(&["algorithm.Python.time_limit=0"], &["time_limit", "above 0"]);
    refused(&["server.aggregation=Median"], &["server.aggregation", "does not go with algorithm Python"]);
    refused(&["federated_lora=Flora"], &["FLoRA", "use FedAvg or FedProx"]);
    let changes = r#"changes=[(at_round: 2, set: ["algorithm=FedAvg"])]"#;
    refused(&[changes], &["changes.0.set", "cease to be or change Python"]);
    let said = play(&world, "no-such-python", "out", &[]);
    said.refused(2, &["rule.py", "`no-such-python` cannot be run", "--python"]);
    let Some(python) = python() else { return };
    let check = |rule: &str| {
        world.write("rule.py", rule);
        world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial", "--python", &python])
    };
    check(MEAN).succeeded();
    check("x = 1").refused(2, &["it has no function `aggregate`"]);
    // A module beside the rule has no version.
    world.write("beside.py", "x = 1");
    let rule = format!("import sys\nsys.path.append('.')\nimport beside\n{MEAN}");
    check(&rule).refused(2, &["imports `beside` from ", "which is of no installed package"]);
    check(MEAN).succeeded();
    play(&world, &python, "out", &["--set", "algorithm.Python.parameters={\"beta\": 1}"])
        .refused(2, &["does not take", "unexpected keyword argument 'beta'"]);
}

/// A rule of a program that uses the library: the mean, with all weights alike.
#[derive(Debug)]
struct Alike;

impl AggregationRule for Alike {
    fn name(&self) -> String {
        "alike".into()
    }

    fn hash(&self) -> blake3::Hash {
        blake3::hash(b"alike, version 1")
    }

    fn aggregate(&self, input: &RuleInput, _stop: &AtomicBool) -> Result<RuleOutput, RuleError> {
        let mut values: Vec<f64> = input.server.values.iter().map(|&value| value.into()).collect();
        for update in &input.updates {
            for (value, change) in values.iter_mut().zip(&update.change) {
                *value += change / input.updates.len() as f64;
            }
        }
        Ok(RuleOutput { values, state: vec![] })
    }
}

#[test]
fn a_program_brings_a_rule_of_its_own() {
    let world = world(MEAN, r#"Custom(name: "alike")"#, SYNCHRONOUS);
    let scenario = Scenario::read(&world.path("scenario.ron"), &[]).expect("a scenario");
    let store = Store::open(&world.path("store")).expect("a store");
    let custom = [("alike".to_owned(), Arc::new(Alike) as Arc<dyn AggregationRule>)].into();
    let rules = OwnRules { custom, ..OwnRules::default() };
    let options = |out: PathBuf| RunOptions { store: store.clone(), rules: rules.clone(), ..RunOptions::new(out) };
    let summary = run(&scenario, &options(world.path("own")), &mut ()).expect("a run");
    let again = run(&scenario, &options(world.path("again")), &mut ()).expect("a run");
    assert_eq!(summary.digest, again.digest);
    // The command line has no such rule, and the mean with weights alike is FedAvg(weights: Uniform).
    world.fedreplay(&["replay", "own"]).refused(2, &["rule `alike`"]);
    let set = ["--set", "algorithm=FedAvg(weights: Uniform)", "--store", "store"];
    world.fedreplay(&[&["run", "scenario.ron", "--out", "mean"], &set[..]].concat()).succeeded();
    let models = |out: &str| recomputed::models(&world.path(out), &world.path("store"));
    for (own, mean) in models("own")[&1].iter().zip(&models("mean")[&1]) {
        assert!((own - mean).abs() <= 2.5e-7 * mean.abs(), "{own} against {mean}");
    }
}

/// Waits until a condition holds.
#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A rule that takes for ever is left when the run is asked to stop, and does not outlive a run that is killed.
#[test]
fn a_rule_ends_with_its_run() {
    let Some(python) = python() else { return };
    let rule = "import os
import subprocess

def aggregate(server, updates, weights, ranks, staleness, state):
    if os.path.exists('slow'):
        other = subprocess.Popen(['sleep', '600'])
        with open('pid.new', 'w') as file:
            file.write(f'{os.getpid()} {os.getppid()} {other.pid}')
        os.rename('pid.new', 'pid')
        sum(range(10**11))
    return server, state
";
    let world = world(rule, RULE, SYNCHRONOUS);
    let out = |name: &str| play(&world, &python, name, &[]).succeeded().summary("digest").to_owned();
    let digest = out("whole");
    world.write("slow", "");
    for (signal, name) in [(Signal::SIGINT, "stopped"), (Signal::SIGKILL, "killed")] {
        let _ = fs::remove_file(world.path("pid"));
        let arguments = ["run", "scenario.ron", "--out", name, "--store", "none", "--python", &python];
        let mut child = world.command(&arguments).stderr(Stdio::null()).spawn().expect("the binary can be run");
        wait_for("the rule", || world.path("pid").exists());
        let processes = fs::read_to_string(world.path("pid")).expect("numbers");
        let began = Instant::now();
        kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
        let status = child.wait().expect("it ends");
        if signal == Signal::SIGINT {
            assert_eq!(status.code(), Some(130));
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
        let lives = |process: &str| {
            let state = fs::read_to_string(PathBuf::from("/proc").join(process).join("stat"));
            // One that has ended may wait for somebody to ask how.
            state.is_ok_and(|state| !state.contains(") Z "))
        };
        wait_for("the end of what the rule has started", || !processes.split(' ').any(lives));
    }
    fs::remove_file(world.path("slow")).expect("it is there");
    for name in ["stopped", "killed"] {
        let resumed = world.fedreplay(&["resume", name, "--store", "none", "--python", &python]).succeeded();
        assert_eq!(resumed.summary("digest"), digest);
    }
}

/// Python that ends by itself is no fault of the rule's text, and what it said last is told.
#[test]
fn an_end_of_python_is_told_with_its_last_words() {
    let Some(python) = python() else { return };
    let rule = "import os
import sys

def aggregate(server, updates, weights, ranks, staleness, state):
    print('the last words', file=sys.stderr, flush=True)
    os.abort()
";
    let world = world(rule, RULE, SYNCHRONOUS);
    play(&world, &python, "out", &[]).refused(1, &["rule.py", "Python ended by itself (signal: 6", "the last words"]);
}

#[test]
fn the_page_shows_the_example() {
    let page = fs::read_to_string(project("docs/own-rules.md")).expect("the page is there");
    assert!(page.contains(&format!("```python\n{}```", fedavgm())), "docs/own-rules.md has another text");
    let Some(python) = python() else { return };
    let world = World::new();
    let file = project("scenarios/own-rule/rule.ron").display().to_string();
    let sets = ["--set", "rounds=2", "--set", "training.local_steps=1"];
    world
        .fedreplay(&[&["run", &file, "--out", "out", "--store", "none", "--python", &python], &sets[..]].concat())
        .succeeded();
    assert!(files(&world.path("out")).iter().any(|(name, _)| name == "manifest.json"));
}
