//! Privacy: what is spent stands in the ledger, budgets end runs cleanly, and what would promise nothing is refused.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, UInt32Type};
use fedreplay::ledger::read_table;
use fedreplay::privacy::accountant::{Accountant, Mechanism};

use super::support::World;

const SERVER: &str = "protocol: Synchronous(clients_per_round: 2, over_selection: 2, deadline: \"10m\"),";
const POISSON: &str = "protocol: Synchronous(clients_per_round: 2), selection: Poisson(rate: 0.3),";

/// The small world without what couples clients, under this server and privacy.
fn world(server: &str, privacy: &str) -> World {
    let world = World::new();
    world.edit("scenario.ron", SERVER, server);
    world.edit(
        "scenario.ron",
        "evaluation: (local_baseline: true)",
        &format!("evaluation: (every: 1000), privacy: {privacy}"),
    );
    world.edit("scenario.ron", "    rounds: 3,", "    rounds: 3,\n    algorithm: FedAvg(weights: Uniform),");
    world
}

fn user_level(more: &str) -> String {
    format!("UserLevel(clipping: Fixed(norm: 0.1), noise_multiplier: 2.0, delta: 0.01, {more})")
}

/// Column `epsilon_spent` of a run.
fn spent(world: &World, run: &str) -> Vec<Option<f64>> {
    let rounds = read_table(&world.path(run), "rounds").expect("the table is there");
    rounds["epsilon_spent"].as_primitive::<Float64Type>().iter().collect()
}

#[test]
fn poisson_rounds_are_charged_as_steps_whoever_came() {
    let world = world(POISSON, &user_level(""));
    let first = world.run("run", &[]).succeeded();
    let mechanism = Mechanism::Poisson { noise_multiplier: 2.0, rate: 0.3 };
    let expected: Vec<_> = (1..=3).map(|round| Some(mechanism.epsilon(round, 0.01, Accountant::Pld))).collect();
    assert_eq!(spent(&world, "run"), expected);
    // The same bits again, with one worker.
    let again = world.run("again", &["--workers", "1"]).succeeded();
    assert_eq!(first.summary("digest"), again.summary("digest"));
}

#[test]
fn a_round_beyond_the_budget_is_not_run() {
    let epsilon = Mechanism::Poisson { noise_multiplier: 2.0, rate: 0.3 }.epsilon(2, 0.01, Accountant::Pld);
    let world = world(POISSON, &user_level(&format!("epsilon: {}", epsilon * 1.001)));
    let said = world.run("run", &[]).succeeded();
    assert_eq!(spent(&world, "run").len(), 2);
    assert!(said.summary("budget").starts_with("spent: 1 more rounds would exceed"), "{}", said.stdout);
    // A plan says the same beforehand.
    let planned = world.fedreplay(&["plan", "scenario.ron", "--out", "plan"]).succeeded();
    assert_eq!(
        (planned.summary("budget"), planned.summary("privacy")),
        (said.summary("budget"), said.summary("privacy"))
    );
    assert_eq!(spent(&world, "plan"), spent(&world, "run"));
    let none = self::world(POISSON, &user_level("epsilon: 0.001"));
    none.run("none", &[]).refused(2, &["the first round alone spends epsilon"]);
}

#[test]
fn what_couples_clients_needs_a_cap_and_is_charged_by_it() {
    let couples = world(SERVER, &user_level(""));
    couples.run("run", &[]).refused(2, &["privacy.max_participations", "a deadline is met or missed"]);
    let capped = world(SERVER, &user_level("max_participations: 1"));
    capped.run("run", &[]).succeeded();
    let once = Mechanism::ReplaceOne { noise_multiplier: 2.0 }.epsilon(1, 0.01, Accountant::Pld);
    assert_eq!(spent(&capped, "run"), [Some(once); 3]);
    // Six clients, two a round for three rounds: whoever is asked twice counts once.
    let tasks = read_table(&capped.path("run"), "tasks").expect("the table is there");
    let mut counted = BTreeMap::new();
    let weights = tasks["weight"].as_primitive::<Float64Type>();
    for (client, weight) in tasks["client"].as_primitive::<UInt32Type>().iter().zip(weights) {
        *counted.entry(client).or_insert(0) += u32::from(weight.is_some_and(|weight| weight > 0.0));
    }
    assert!(counted.values().all(|&updates| updates <= 1), "{counted:?}");
}

#[test]
fn every_placement_and_clipping_plays() {
    for privacy in [
        "UserLevel(clipping: PerLayer(norm: 0.1), noise_multiplier: 1.0, delta: 0.01, accountant: Rdp)".to_owned(),
        "UserLevel(clipping: Adaptive(initial_norm: 0.1, count_noise: 2.0), noise_multiplier: 1.0, delta: 0.01)".into(),
        user_level("placement: Local, max_participations: 2"),
        user_level("placement: Tree, max_participations: 1"),
        user_level("grid: 0.001"),
    ] {
        let world = world(POISSON, &privacy);
        world.run("run", &[]).succeeded();
        let spent = spent(&world, "run");
        assert!(
            spent.iter().all(|epsilon| epsilon.is_some_and(|epsilon| epsilon > 0.0 && epsilon.is_finite())),
            "{privacy}"
        );
    }
}

/// The accountant that is named is the one whose number is printed, not the one that was asked for.
#[test]
fn the_calculator_and_a_run_name_the_method_that_gave_epsilon() {
    let world = world(POISSON, &user_level(""));
    let poisson = ["--sampling-rate", "0.3", "--steps", "3"];
    let half = ["--clients", "10", "--cohort", "5", "--steps", "12"];
    let few = ["--clients", "1000", "--cohort", "10", "--steps", "12"];
    for (noise, sampling, accountant, named) in [
        ("2", poisson.as_slice(), "pld", "by pld"),
        ("2", &poisson, "rdp", "by rdp"),
        ("0.03", &poisson, "pld", "by the exact Gaussian without sampling, an upper bound"),
        ("0.9", &half, "pld", "by the exact Gaussian without sampling, an upper bound"),
        ("0.9", &half, "rdp", "by rdp"),
        ("2", &few, "pld", "by rdp"),
        ("20", &["--participations", "4"], "pld", "by the exact Gaussian"),
    ] {
        let asked = ["privacy", "epsilon", "--delta", "0.01", "--noise-multiplier", noise, "--accountant", accountant];
        let said = world.fedreplay(&[asked.as_slice(), sampling].concat()).succeeded();
        assert!(said.summary("charged").ends_with(named), "{sampling:?}: {}", said.stdout);
    }
    let run = world.run("run", &[]).succeeded();
    assert!(run.summary("privacy").contains("added or removed, by pld;"), "{}", run.stdout);
}

/// Five of ten clients in each of twelve steps: epsilon is 46.666793 where one is replaced, by theorem 8 of Balle and Wang (2018).
#[test]
fn the_calculator_and_a_run_charge_cohorts_of_fixed_size_alike() {
    let world = world("protocol: Synchronous(clients_per_round: 5),", &user_level("").replace("2.0", "0.9"));
    let asked = ["privacy", "epsilon", "--delta", "0.01", "--noise-multiplier", "0.9"];
    let cohorts = ["--clients", "10", "--cohort", "5", "--steps", "12"];
    let said = world.fedreplay(&[asked, cohorts].concat()).succeeded();
    assert!(said.summary("epsilon").starts_with("46.666793 "), "{}", said.stdout);
    world.write("data.json", &crate::support::data(10, 8));
    world.edit("scenario.ron", ", dropout: (during_training: 0.3)", "");
    world.fedreplay(&["plan", "scenario.ron", "--set", "rounds=12", "--out", "plan"]).succeeded();
    let last = spent(&world, "plan")[11].expect("an epsilon");
    assert_eq!(format!("{last:.6}"), "46.666793");
}

#[test]
fn runs_with_little_noise_or_none_say_what_they_spend() {
    let little = world(POISSON, &user_level("").replace("2.0", "0.03"));
    let said = little.run("run", &["--set", "rounds=1"]).succeeded();
    assert!(spent(&little, "run")[0].is_some_and(|epsilon| epsilon > 100.0 && epsilon.is_finite()));
    assert!(
        said.summary("privacy").contains("by the exact Gaussian without sampling, an upper bound;"),
        "{}",
        said.stdout
    );
    let none = world(POISSON, "UserLevel(clipping: Fixed(norm: 0.1), noise_multiplier: 0, delta: 0.01)");
    let said = none.run("run", &["--set", "rounds=1"]).succeeded();
    assert!(said.summary("privacy").starts_with("epsilon infinite at delta 0.01"), "{}", said.stdout);
    assert!(said.summary("privacy").contains("by definition, as there is no noise;"), "{}", said.stdout);
}

/// What the server does with a released mean costs nothing: every server rule spends the same and gives another model.
#[test]
fn server_optimizers_stand_on_top() {
    let mut models = BTreeMap::new();
    for method in ["FedAvg", "FedAvgM", "FedAdagrad", "FedYogi", "FedAdam", "FedProx"] {
        let world = world(POISSON, &user_level(""));
        world.edit("scenario.ron", "algorithm: FedAvg(", &format!("algorithm: {method}("));
        world.run("run", &["--set", "rounds=2"]).succeeded();
        let rounds = read_table(&world.path("run"), "rounds").expect("the table is there");
        let model = rounds["model_hash"].as_string::<i32>().value(1).to_owned();
        models.insert(method, (spent(&world, "run"), model));
    }
    assert!(models.values().all(|(spent, _)| *spent == models["FedAvg"].0));
    let distinct: std::collections::BTreeSet<_> = models.values().map(|(_, model)| model).collect();
    assert_eq!(distinct.len(), models.len(), "{models:?}");
    let scaffold = world(POISSON, &user_level(""));
    scaffold.edit("scenario.ron", "algorithm: FedAvg(", "algorithm: Scaffold(");
    scaffold.run("run", &[]).refused(2, &["algorithm", "clipping and noise protect"]);
}

#[test]
fn their_method_says_that_it_guarantees_nothing() {
    let world = world(SERVER, "FedLlmBenchDp(claimed_epsilon: 1)");
    let said = world.run("run", &[]).succeeded();
    assert_eq!(spent(&world, "run"), [Some(f64::INFINITY); 3]);
    assert!(said.summary("privacy").contains("no guarantee: FedLlmBenchDp claims epsilon 1"), "{}", said.stdout);
}

#[test]
fn secret_noise_is_recorded_only_as_such_and_cannot_be_played_again() {
    let world = world(POISSON, &user_level("noise: Secret"));
    let [one, two] = ["one", "two"].map(|run| world.run(run, &[]).succeeded());
    assert_ne!(one.summary("digest"), two.summary("digest"));
    let manifest = std::fs::read_to_string(world.path("one").join("manifest.json")).expect("a manifest");
    assert!(manifest.contains("\"grade\": \"none: secret noise\""), "{manifest}");
    let run = world.path("one");
    world.fedreplay(&["replay", run.to_str().expect("a plain path")]).refused(2, &["its noise is secret"]);
}

#[test]
fn what_would_promise_nothing_is_refused_with_the_reason() {
    for (server, privacy, reason) in [
        (
            POISSON,
            "UserLevel(clipping: Fixed(norm: 1), noise_multiplier: 0, delta: 0.01, epsilon: 3)",
            "without noise no epsilon",
        ),
        (
            POISSON,
            "UserLevel(clipping: Adaptive(initial_norm: 1), noise_multiplier: 1, delta: 0.01)",
            "its count needs noise",
        ),
        (
            POISSON,
            "UserLevel(clipping: Adaptive(initial_norm: 1, count_noise: 0.5), noise_multiplier: 1, delta: 0.01)",
            "the count alone spends it",
        ),
        (POISSON, "UserLevel(clipping: Fixed(norm: 0), noise_multiplier: 1, delta: 0.01)", "it must be above 0"),
        (
            POISSON,
            "UserLevel(clipping: Fixed(norm: 1), noise_multiplier: 1, delta: 1)",
            "it must be above 0 and below 1",
        ),
        ("protocol: Synchronous(clients_per_round: 2), selection: Poisson(rate: 1.5),", "None", "above 0, at most 1"),
    ] {
        world(server, privacy).run("run", &[]).refused(2, &[reason]);
    }
    let unbounded = world(POISSON, &user_level(""));
    unbounded.edit("scenario.ron", "weights: Uniform", "weights: Samples");
    unbounded.run("run", &[]).refused(2, &["weights by rows have no bound"]);
    unbounded.edit("scenario.ron", "delta: 0.01", "delta: 0.5, weight_bound: 4");
    let said = unbounded.run("warned", &[]).succeeded();
    assert!(said.stderr.contains("delta is not below one over the number of clients"), "{}", said.stderr);
}
