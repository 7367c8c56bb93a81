//! Robust aggregation: a run's models are those of the rule's formula, and what does not go together is refused.

use fedreplay::ledger::RunTables;

use super::methods::scenario;
use super::recomputed::{self, minus};
use super::support::World;

const RULES: [&str; 8] = [
    "Median",
    "TrimmedMean(trim: 0.25)",
    "Krum(byzantine: 1)",
    "MultiKrum(byzantine: 1)",
    "Bulyan(byzantine: 0)",
    "GeometricMedian()",
    "NormBounding(bound: 0.01)",
    "CenteredClipping(radius: 0.01)",
];
const ALL: &str = "Synchronous(clients_per_round: 6, minimum: 6)";

fn aggregation(rule: &str) -> String {
    format!("server.aggregation={rule}")
}

/// Runs a method and a rule into `out`, and returns what it says.
fn run(world: &World, out: &str, method: &str, rule: &str, protocol: &str) -> super::support::Said {
    world.write("scenario.ron", &scenario(method, protocol));
    world.fedreplay(&["run", "scenario.ron", "--out", out, "--store", "store", "--set", &aggregation(rule)])
}

/// Returns the changes of a round by its clients, from the model before it.
fn changes(world: &World, out: &str, version: u64, before: &[f64]) -> Vec<Vec<f64>> {
    let trainings = recomputed::trainings(&world.path(out), &world.path("store"));
    let counted = trainings.into_iter().filter(|training| training.counted_in == version);
    counted.map(|training| minus(&training.adapter, before)).collect()
}

/// Returns the median of each coordinate.
pub fn median(changes: &[Vec<f64>]) -> Vec<f64> {
    let at = |place: usize| {
        let mut values: Vec<f64> = changes.iter().map(|change| change[place]).collect();
        values.sort_by(f64::total_cmp);
        (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
    };
    (0..changes[0].len()).map(at).collect()
}

/// Returns the weights of the tasks that counted.
fn weights(world: &World, out: &str) -> Vec<f64> {
    let tasks = RunTables::read(&world.path(out)).expect("the tables").tasks().expect("tasks");
    tasks.numbers("weight").expect("weights").into_iter().flatten().collect()
}

#[test]
fn a_server_optimizer_steps_along_the_median() {
    let world = World::new();
    run(&world, "run", "FedAvgM(beta: 0.9)", "Median", ALL).succeeded();
    let models = recomputed::models(&world.path("run"), &world.path("store"));
    let first = median(&changes(&world, "run", 1, &models[&0]));
    recomputed::assert_moved(&models[&1], &models[&0], &first);
    let second = median(&changes(&world, "run", 2, &models[&1]));
    let momentum: Vec<f64> = first.iter().zip(&second).map(|(first, second)| 0.9 * first + second).collect();
    recomputed::assert_moved(&models[&2], &models[&1], &momentum);
    let all = weights(&world, "run");
    assert_eq!(all.len(), 12);
    assert!((all.iter().sum::<f64>() - 2.0).abs() < 1e-9 && all.iter().all(|&weight| weight > 0.0), "{all:?}");
}

#[test]
fn centered_clipping_begins_where_the_round_before_ended_with_any_store() {
    let world = World::new();
    let rule = "CenteredClipping(radius: 0.02)";
    let digest = run(&world, "run", "FedAvg()", rule, ALL).succeeded().summary("digest").to_owned();
    let models = recomputed::models(&world.path("run"), &world.path("store"));
    let mut center = vec![0.0; models[&0].len()];
    for version in [1, 2] {
        let before = &models[&(version - 1)];
        let mut next = center.clone();
        let mut clipped = 0;
        for change in changes(&world, "run", version, before) {
            let away = minus(&change, &center);
            let length = away.iter().map(|value| value * value).sum::<f64>().sqrt();
            clipped += usize::from(length > 0.02);
            for (value, away) in next.iter_mut().zip(away) {
                *value += away * (0.02 / length).min(1.0) / 6.0;
            }
        }
        assert!(clipped > 0, "the radius is seen");
        recomputed::assert_moved(&models[&version], before, &next);
        center = next.into_iter().map(|value| f64::from(value as f32)).collect();
    }
    // The center is part of the stored model, so that a run from a full store and one without a store go on alike.
    let again = |out: &str, store: &str| {
        let set = aggregation(rule);
        let said = world.fedreplay(&["run", "scenario.ron", "--out", out, "--store", store, "--set", &set]);
        said.succeeded().summary("digest").to_owned()
    };
    assert_eq!(digest, again("full", "store"));
    assert_eq!(digest, again("without", "none"));
    // A model that is missing is computed again from the center of the round before.
    let rounds = RunTables::read(&world.path("run")).expect("tables");
    let last = rounds.rounds().texts("model_key").expect("keys").into_iter().flatten().next_back().expect("a model");
    let results = world.path("store").join("results");
    let (name, _) =
        super::support::files(&results).into_iter().find(|(name, _)| name.ends_with(last)).expect("it is stored");
    std::fs::remove_file(results.join(name)).expect("it is there");
    assert_eq!(digest, again("gap", "store"));
}

#[test]
fn rules_run_under_protocols_of_several_updates() {
    let world = World::new();
    let protocols = [
        ("synchronous", ALL),
        ("buffered", "Buffered(concurrency: 6, buffer_size: 5)"),
        ("semi", r#"SemiSynchronous(window: "20m", concurrency: 6, max_staleness: 3, minimum: 5)"#),
        ("tiered", "Tiered(tiers: 1, clients_per_round: 5, minimum: 5)"),
    ];
    for rule in RULES {
        for (name, protocol) in protocols {
            let out = format!("{name}-{}", &rule[..6]);
            let said = run(&world, &out, "FedProx(mu: 0.1)", rule, protocol).succeeded();
            assert!(!said.stderr.contains("server.protocol.minimum"), "{}", said.stderr);
            let all = weights(&world, &out);
            assert!(all.iter().any(|&weight| weight > 0.0), "{rule} under {name}: {all:?}");
            assert!(world.fedreplay(&["verify", &out]).succeeded().stdout.starts_with("whole: "));
        }
    }
    // Edges combine the updates of their clients by the rule, and the server merges their models by the mean.
    let edges = super::methods::PROTOCOLS[5].1.replace("clients_per_round: 2", "clients_per_round: 6, minimum: 6");
    run(&world, "edges", "FedAvg()", "Krum(byzantine: 1)", &edges).succeeded();
    let lineage = fedreplay::ledger::read_table(&world.path("edges"), "lineage").expect("a lineage");
    let lineage = fedreplay::ledger::Lineage::of(&lineage).expect("rows");
    let aggregates = lineage.entries.iter().filter(|entry| entry.kind == "aggregate");
    let robust: Vec<bool> = aggregates.map(|entry| entry.parameters.contains("Krum")).collect();
    assert_eq!(robust, [true, true, false, true, true, false]);
}

#[test]
fn rounds_with_too_few_updates_change_nothing() {
    let world = World::new();
    let few = r#"SemiSynchronous(window: "20m", concurrency: 4, max_staleness: 3)"#;
    let said = run(&world, "run", "FedAvg()", "Krum(byzantine: 1)", few).succeeded();
    assert!(said.stderr.contains("fewer than 5 updates change nothing"), "{}", said.stderr);
    let models = recomputed::models(&world.path("run"), &world.path("store"));
    assert!(models.len() > 1 && models.values().all(|model| *model == models[&0]));
    let all = weights(&world, "run");
    assert!(!all.is_empty() && all.iter().all(|&weight| weight == 0.0), "{all:?}");
}

#[test]
fn a_rule_may_change_during_a_run() {
    let world = World::new();
    world.write("scenario.ron", &scenario("FedAvg()", ALL));
    let change = r#"changes=[(at_round: 2, set: ["server.aggregation=Median"])]"#;
    world.fedreplay(&["run", "scenario.ron", "--out", "run", "--store", "store", "--set", change]).succeeded();
    let models = recomputed::models(&world.path("run"), &world.path("store"));
    recomputed::assert_moved(&models[&2], &models[&1], &median(&changes(&world, "run", 2, &models[&1])));
    let plain = world.fedreplay(&["run", "scenario.ron", "--out", "plain", "--store", "store"]);
    plain.succeeded();
    assert_eq!(models[&1], recomputed::models(&world.path("plain"), &world.path("store"))[&1]);
    let forked = ["fork", "plain", "--at-round", "2", "--store", "store", "--out", "fork", "--set"];
    world.fedreplay(&[&forked[..], &["server.aggregation=Median"]].concat()).succeeded();
    assert_eq!(models[&2], recomputed::models(&world.path("fork"), &world.path("store"))[&2]);
}

#[test]
fn what_does_not_go_with_a_robust_rule_is_refused() {
    let world = World::new();
    let check = |method: &str, protocol: &str, sets: &[&str], parts: &[&str]| {
        world.write("scenario.ron", &scenario(method, protocol));
        let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
        world.run("run", &sets).refused(2, parts);
        assert!(!world.path("run").exists());
    };
    let median = "server.aggregation=Median";
    let field = "server.aggregation";
    check("Scaffold()", ALL, &[median], &[field, "control variates"]);
    check("Local", ALL, &[median], &[field, "nothing is aggregated"]);
    check("Centralised", ALL, &[median], &[field, "nothing is aggregated"]);
    check("FedAvg(mean: Products)", ALL, &[median], &[field, "Products"]);
    check("FedAvg()", "Asynchronous(concurrency: 2)", &[median], &[field, "use Buffered"]);
    check("FedAvg()", ALL, &[median, r#"privacy={"FedLlmBenchDp":{}}"#], &[field, "privacy"]);
    let edges = super::methods::PROTOCOLS[5].1;
    check("FedAvg()", edges, &["server.aggregation=CenteredClipping()"], &[field, "edges begin anew"]);
    // Too few updates in a round, or in the federation.
    for (rule, parts) in [
        ("Krum(byzantine: 2)", ["server.aggregation.byzantine", "at least 7 updates (2 x 2 + 3)"]),
        ("MultiKrum(byzantine: 2)", ["server.aggregation.byzantine", "at least 7 updates"]),
        ("MultiKrum(byzantine: 1, selected: 4)", ["server.aggregation.selected", "at least 7 updates"]),
        ("Bulyan(byzantine: 1)", ["server.aggregation.byzantine", "at least 7 updates (4 x 1 + 3)"]),
        ("TrimmedMean(trim: 0.1)", ["server.aggregation.trim", "at least 10 updates"]),
    ] {
        check("FedAvg()", ALL, &[&aggregation(rule)], &parts);
        check(
            "FedAvg()",
            "Buffered(concurrency: 6, buffer_size: 6)",
            &[&aggregation(rule)],
            &[parts[1], "buffer_size is 6"],
        );
        let more = "Synchronous(clients_per_round: 20)";
        check("FedAvg()", more, &[&aggregation(rule)], &[field, "there are 6 clients"]);
    }
    // Parameters out of range.
    for (rule, parts) in [
        ("TrimmedMean(trim: 0.5)", ["trim", "above 0 and below 0.5"]),
        ("TrimmedMean(trim: 0)", ["trim", "above 0 and below 0.5"]),
        ("MultiKrum(byzantine: 1, selected: 0)", ["selected", "at least 1"]),
        ("NormBounding(bound: 0)", ["bound", "above 0"]),
        ("CenteredClipping(radius: -1)", ["radius", "above 0"]),
        ("GeometricMedian(smoothing: 0)", ["smoothing", "above 0"]),
        ("GeometricMedian(iterations: 0)", ["iterations", "at least 1"]),
        ("CenteredClipping(iterations: 1001)", ["server.aggregation.iterations", "at most 1000"]),
    ] {
        check("FedAvg()", ALL, &[&aggregation(rule)], &parts);
    }
}
