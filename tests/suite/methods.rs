//! Federated methods: every cell of method and protocol is played or refused, and what a method keeps is kept.

use super::recomputed::{self, Optimizer, Training, minus};
use crate::support::{World, files};

const METHODS: [&str; 9] = [
    "FedAvg()",
    "FedProx(mu: 0.1)",
    "Scaffold()",
    "FedAvgM()",
    "FedAdagrad()",
    "FedYogi()",
    "FedAdam()",
    "Local",
    "Centralised",
];

/// Protocols with the fields that have no defaults, in the order of docs/methods/combinations.md.
pub const PROTOCOLS: [(&str, &str); 6] = [
    ("synchronous", r#"Synchronous(clients_per_round: 6)"#),
    ("semi-synchronous", r#"SemiSynchronous(window: "2m", concurrency: 3, max_staleness: 3)"#),
    ("buffered", "Buffered(concurrency: 3, buffer_size: 2)"),
    ("asynchronous", "Asynchronous(concurrency: 2)"),
    ("tiered", "Tiered(tiers: 2, clients_per_round: 2)"),
    (
        "hierarchical",
        r#"Hierarchical(clients_per_round: 2, edge_rounds: 2, edges: [(region: "here", down: "1 Gbit/s", up: "1 Gbit/s",
            downlink: "1 Gbit/s", uplink: "1 Gbit/s")])"#,
    ),
];

/// A method and the protocol that it is refused under, with a part of the reason.
fn refusal(method: &str, protocol: &str) -> Option<&'static str> {
    let is_adaptive = ["FedAvgM", "FedAdagrad", "FedYogi", "FedAdam"].iter().any(|name| method.starts_with(name));
    match (method, protocol) {
        (_, "synchronous") => None,
        ("Scaffold()", _) => Some("start from one model and one c"),
        ("Local" | "Centralised", _) => Some("nothing is aggregated"),
        (_, "asynchronous") if is_adaptive => Some("FedAsync mixes models"),
        _ => None,
    }
}

/// Two rounds of one step, on devices that never drop out, of `method` under `protocol`.
pub fn scenario(method: &str, protocol: &str) -> String {
    format!(
        r#"(
    name: "cell", seed: 3, rounds: 2, algorithm: {method},
    model: (folder: "base", lora: (rank: 2, alpha: 4)),
    data: (file: "data.json", max_seq_length: 160, held_out: 0.2),
    training: (local_steps: 2, batch_size: 2, lr: 1e-2),
    server: (protocol: {protocol}, downlink: "1 Gbit/s", uplink: "1 Gbit/s"),
    population: (
        devices: {{ "quick": (speed: "1 GFLOP/s", jitter: 0.2) }},
        links: {{ "home": (down: "20 Mbit/s", up: "4 Mbit/s") }},
        mix: [(share: 1, device: "quick", link: "home", region: "here")],
    ),
    evaluation: (every: 9),
)"#
    )
}

#[test]
fn every_cell_of_method_and_protocol_is_refused_or_gives_the_models_of_its_formulas() {
    let world = World::new();
    for method in METHODS {
        for (name, protocol) in PROTOCOLS {
            world.write("scenario.ron", &scenario(method, protocol));
            let title = method.split('(').next().expect("a name");
            let out = format!("{name}-{title}");
            let said = world.fedreplay(&["run", "scenario.ron", "--out", &out, "--store", "store"]);
            match refusal(method, name) {
                None => {
                    let said = said.succeeded();
                    let trained: u32 = {
                        let tasks = said.summary("tasks");
                        let part = tasks.split(", ").next().expect("a first part");
                        part.rsplit(": ").next().and_then(|part| part.split(' ').next()?.parse().ok()).expect("a count")
                    };
                    assert!(trained >= 2, "{method} under {name}: {trained} tasks trained");
                    if !matches!(title, "Scaffold" | "Local" | "Centralised") {
                        let mut optimizer = Optimizer::new(title);
                        let models = recomputed::check(&world.path(&out), &world.path("store"), name, &mut optimizer);
                        assert!(models >= 2, "{method} under {name}: {models} models");
                    }
                }
                Some(reason) => drop(said.refused(2, &["server.protocol", reason])),
            }
        }
    }
}

/// Runs a method with plain gradient descent at a rate of 0.5 into `out`, where tasks take this many steps.
fn descend(world: &World, out: &str, method: &str, protocol: &str, steps: u32) {
    world.write("scenario.ron", &scenario(method, protocol));
    let steps = format!("training.local_steps={steps}");
    let sets = ["training.optimizer=Sgd", "training.max_grad_norm=None", "training.lr=0.5", &steps];
    let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
    let arguments = ["run", "scenario.ron", "--out", out, "--store", "store"];
    world.fedreplay(&[&arguments[..], &sets].concat()).succeeded();
}

/// Fails unless two models are equal but for the rounding of their values to f32, relative to their largest change.
#[track_caller]
fn assert_same_model(what: &str, found: &[f64], expected: &[f64], before: &[f64]) {
    let moved = largest(&minus(expected, before));
    let apart = largest(&minus(found, expected));
    assert!(apart <= 1e-5 * moved + 1e-8, "{what}: {apart} apart after a change of {moved}");
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// The second of two steps is pulled back to the start: of tasks that begin with the first model, the first step is that of a
/// run of FedAvg with one step, and the second one that of a run with two, less lr mu (w - start).
#[test]
fn fedprox_pulls_to_the_model_that_a_task_began_with_under_every_protocol() {
    let world = World::new();
    for (name, protocol) in PROTOCOLS {
        let trained = |method: &str, steps: u32| {
            let out = format!("{name}-{}-{steps}", &method[..6]);
            descend(&world, &out, method, protocol, steps);
            let trainings = recomputed::trainings(&world.path(&out), &world.path("store"));
            let of_start = trainings.into_iter().filter(|training| training.from == 0);
            let start = recomputed::models(&world.path(&out), &world.path("store")).remove(&0).expect("a start");
            (start, of_start.collect::<Vec<Training>>())
        };
        let (start, one_step) = trained("FedAvg()", 1);
        let (_, two_steps) = trained("FedAvg()", 2);
        let (_, pulled) = trained("FedProx(mu: 0.5)", 2);
        let of = |client: u64, all: &[Training]| {
            all.iter().find(|training| training.client == client).map(|training| training.adapter.clone())
        };
        let mut compared = 0;
        for training in &pulled {
            let (Some(first), Some(second)) = (of(training.client, &one_step), of(training.client, &two_steps)) else {
                continue;
            };
            let pull: Vec<f64> = minus(&first, &start).iter().map(|moved| 0.5 * 0.5 * moved).collect();
            let what = format!("{name}, client {}", training.client);
            assert_same_model(&what, &training.adapter, &minus(&second, &pull), &start);
            assert!(largest(&pull) > 1e-3 * largest(&minus(&second, &start)), "{what}: the pull is seen");
            compared += 1;
        }
        assert!(compared >= 2, "{name}: {compared} tasks");
    }
}

/// With one step a task, the first round is that of FedAvg, and its gradients g are what models moved by. They are the variates
/// of the clients, and 1/N of their sum is the server's. So the second round's steps are those of FedAvg less lr (c - c_i).
#[test]
fn scaffold_corrects_the_second_round_by_the_gradients_of_the_first() {
    let world = World::new();
    for cohort in [2, 1] {
        let protocol = format!("Synchronous(clients_per_round: {cohort})");
        let run = |method: &str, out: &str| {
            world.write("data.json", &crate::support::data(2, 8));
            let out = format!("{out}-{cohort}");
            descend(&world, &out, method, &protocol, 1);
            let store = world.path("store");
            (recomputed::models(&world.path(&out), &store), recomputed::trainings(&world.path(&out), &store))
        };
        let (plain_models, plain) = run("FedAvg(weights: Uniform)", "plain");
        let (models, corrected) = run("Scaffold()", "scaffold");
        assert_eq!(models[&1], plain_models[&1], "there is no correction in the first round");
        let of_version = |version: u64| plain.iter().filter(move |training| training.counted_in == version);
        let mut variates = [vec![0.0; models[&0].len()], vec![0.0; models[&0].len()]];
        for training in of_version(1) {
            let gradient = minus(&models[&0], &training.adapter).iter().map(|moved| moved / 0.5).collect();
            variates[training.client as usize] = gradient;
        }
        let [first, second] = &variates;
        let server: Vec<f64> = first.iter().zip(second).map(|(first, second)| (first + second) / 2.0).collect();
        let mut mean = vec![0.0; server.len()];
        for training in of_version(2) {
            let correction = minus(&server, &variates[training.client as usize]);
            assert!(largest(&correction) > 1e-3 * largest(&server), "the correction is seen");
            let step: Vec<f64> = correction.iter().map(|value| 0.5 * value).collect();
            let expected = minus(&training.adapter, &step);
            let mut own = corrected.iter().filter(|it| it.counted_in == 2 && it.client == training.client);
            let found = &own.next().expect("the same clients are asked").adapter;
            assert_same_model(&format!("client {} of {cohort}", training.client), found, &expected, &models[&1]);
            for (sum, value) in mean.iter_mut().zip(&expected) {
                *sum += value / f64::from(cohort);
            }
        }
        assert_same_model(&format!("round 2 of {cohort}"), &models[&2], &mean, &models[&1]);
    }
}

#[test]
fn a_method_that_takes_the_place_of_another_begins_without_its_moments() {
    let world = World::new();
    for (first, next) in [("FedAvgM", "FedAdam"), ("FedYogi", "FedAvgM"), ("FedAdagrad", "FedAdam")] {
        let change = format!("changes=[(at_round: 2, set: [\"algorithm={next}()\"])]");
        world.write("scenario.ron", &scenario(&format!("{first}()"), PROTOCOLS[0].1));
        let out = format!("{first}-{next}");
        world.fedreplay(&["run", "scenario.ron", "--out", &out, "--store", "store", "--set", &change]).succeeded();
        let mut optimizer = Optimizer::replaced(first, next);
        let models = recomputed::check(&world.path(&out), &world.path("store"), "synchronous", &mut optimizer);
        assert_eq!(models, 2, "{out}");
    }
}

/// The adapter after the last round, under one of the project's own seeds.
fn last_adapter(world: &World, out: &str) -> Vec<u8> {
    let found = files(&world.path(out).join("adapters"));
    let last = found.iter().rfind(|(name, _)| name.ends_with("adapter_model.safetensors"));
    last.expect("the last adapter is saved").1.clone()
}

#[test]
fn methods_differ_and_their_neutral_settings_do_not() {
    let world = World::new();
    let play = |out: &str, method: &str| {
        world.write("scenario.ron", &scenario(method, PROTOCOLS[0].1));
        world.run(out, &["--set", "training.optimizer=Sgd"]).succeeded();
        last_adapter(&world, out)
    };
    let plain = play("plain", "FedAvg()");
    assert_eq!(plain, play("prox-0", "FedProx(mu: 0)"));
    assert_eq!(plain, play("momentum-0", "FedAvgM(beta: 0)"));
    assert_ne!(plain, play("uniform", "FedAvg(weights: Uniform)"));
    assert_ne!(plain, play("prox", "FedProx(mu: 10)"));
    assert_ne!(plain, play("momentum", "FedAvgM()"));
    // Two rounds: the second is corrected by what the first left with the clients and the server.
    assert_ne!(play("uniform-2", "FedAvg(weights: Uniform)"), play("scaffold", "Scaffold()"));
}

#[test]
fn scaffold_is_the_same_with_a_store_without_one_and_from_a_full_one() {
    let world = World::new();
    world.write("scenario.ron", &scenario("Scaffold()", "Synchronous(clients_per_round: 3)"));
    let digest = |out: &str, store: &str, workers: &str| {
        let more = ["run", "scenario.ron", "--set", "rounds=5", "--out", out, "--store", store, "--workers", workers];
        world.fedreplay(&more).succeeded().summary("digest").to_owned()
    };
    let without = digest("without", "none", "2");
    assert_eq!(without, digest("fresh", "store", "1"));
    assert_eq!(without, digest("full", "store", "2"));
    // A missing result is computed again from results that are there.
    let results = files(&world.path("store").join("results"));
    for (name, _) in results.iter().step_by(2) {
        std::fs::remove_file(world.path("store").join("results").join(name)).expect("it is there");
    }
    assert_eq!(without, digest("half", "store", "2"));
}

#[test]
fn kept_moments_outlive_tasks_and_lie_in_the_store() {
    let world = World::new();
    world.write("scenario.ron", &scenario("FedAvg()", "Synchronous(clients_per_round: 3)"));
    let digest = |out: &str, more: &[&str]| {
        let arguments = ["run", "scenario.ron", "--set", "rounds=5", "--out", out];
        let set = ["--set", "training.optimizer_state=Kept"];
        world.fedreplay(&[&arguments[..], &set, more].concat()).succeeded().summary("digest").to_owned()
    };
    let without = digest("without", &["--store", "none"]);
    assert_eq!(without, digest("fresh", &["--store", "store", "--workers", "1"]));
    assert_eq!(without, digest("full", &["--store", "store"]));
    let reset = world.run("reset", &["--set", "rounds=5"]).succeeded();
    assert_ne!(without, reset.summary("digest"));
    // Gradient descent has nothing to keep; only the scenario's word for it differs.
    let last = |out: &str, state: &str| {
        let sets = ["--set", "training.optimizer=Sgd", "--set", state];
        world.run(out, &sets).succeeded();
        last_adapter(&world, out)
    };
    assert_eq!(last("plain", "training.optimizer_state=Reset"), last("kept", "training.optimizer_state=Kept"));
    world.write("scenario.ron", &scenario("FedAvg()", PROTOCOLS[2].1));
    world.run("refused", &["--set", "training.optimizer_state=Kept"]).refused(2, &["synchronous rounds"]);
}

#[test]
fn means_of_products_are_another_model_than_means_of_factors() {
    let world = World::new();
    let play = |out: &str, method: &str| {
        world.write("scenario.ron", &scenario(method, PROTOCOLS[0].1));
        let said = world.run(out, &[]).succeeded();
        said.summary("loss after").split(' ').next().expect("a loss").parse::<f64>().expect("a number")
    };
    let (factors, products) = (play("factors", "FedAvg()"), play("products", "FedAvg(mean: Products)"));
    assert_ne!(last_adapter(&world, "factors"), last_adapter(&world, "products"));
    assert!((factors - products).abs() < 0.2, "{factors} and {products}");
    play("edges", "FedProx(mean: Products)");
    let private = r#"privacy={"FedLlmBenchDp":{}}"#;
    world.run("private", &["--set", private]).refused(2, &["algorithm.mean", "factors"]);
    world.write("scenario.ron", &scenario("FedAvg(mean: Products)", PROTOCOLS[5].1));
    world.run("hierarchical", &[]).succeeded();
}

#[test]
fn scaffold_trains_by_plain_gradient_descent_and_warns_of_what_breaks_its_theory() {
    let world = World::new();
    world.write("scenario.ron", &scenario("Scaffold()", PROTOCOLS[0].1));
    let quiet = world.run("sgd", &[]).succeeded();
    assert!(!quiet.stderr.contains("SCAFFOLD"), "{}", quiet.stderr);
    let resolved = std::fs::read_to_string(world.path("sgd/scenario.ron")).expect("the run keeps its scenario");
    assert!(resolved.contains("Sgd") && resolved.contains("max_grad_norm: None"), "{resolved}");
    let breaks = [
        ("training.optimizer=AdamW", "SCAFFOLD with AdamW"),
        ("training.optimizer=Sgd(momentum: 0.9)", "SCAFFOLD with momentum"),
        ("training.max_grad_norm=1", "SCAFFOLD with gradients clipped at 1"),
    ];
    for (set, warning) in breaks {
        let warned = world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial", "--set", set]).succeeded();
        assert!(warned.stderr.contains(warning), "{set}: {}", warned.stderr);
    }
    // FedAvg's clipping stays where SCAFFOLD takes its place in mid-run.
    world.write("scenario.ron", &scenario("FedAvg()", PROTOCOLS[0].1));
    let change = r#"changes=[(at_round: 2, set: ["algorithm=Scaffold()", "training.optimizer=Sgd"])]"#;
    let later = "from round 2 on: SCAFFOLD with gradients clipped at 1";
    let warned = world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial", "--set", change]).succeeded();
    assert!(warned.stderr.contains(later) && !warned.stderr.contains("with AdamW"), "{}", warned.stderr);
    world.run("run", &["--set", "rounds=2"]).succeeded();
    let forked = world.fedreplay(&["fork", "run", "--at-round", "2", "--set", "algorithm=Scaffold()", "--out", "fork"]);
    assert!(forked.succeeded().stderr.contains(later));
}

#[test]
fn moments_that_are_kept_while_others_train_are_doubted() {
    let world = World::new();
    let kept = ["scenario", "check", "scenario.ron", "--no-trial", "--set", "training.optimizer_state=Kept", "--set"];
    for (cohort, is_doubted) in [(5, true), (6, false)] {
        world.write("scenario.ron", &scenario("FedAvg()", &format!("Synchronous(clients_per_round: {cohort})")));
        let said = world.fedreplay(&[&kept[..], &["rounds=3"]].concat()).succeeded();
        let doubt = format!("Kept with {cohort} of 6 clients in a round");
        assert_eq!(said.stderr.contains(&doubt), is_doubted, "{}", said.stderr);
    }
    world.write("scenario.ron", &scenario("FedAvg()", "Synchronous(clients_per_round: 9)"));
    for (rate, is_doubted) in [("0.5", true), ("1", false)] {
        let selection = format!("server.selection=Poisson(rate: {rate})");
        let said = world.fedreplay(&[&kept[..], &[&selection]].concat()).succeeded();
        assert_eq!(said.stderr.contains("Kept with each client by a chance of 0.5 in a round"), is_doubted);
        assert!(!said.stderr.contains("asks for 9 clients"), "{}", said.stderr);
    }
}

#[test]
fn fidelity_fills_in_what_the_scenario_leaves_out_and_nothing_else() {
    let world = World::new();
    let resolved = |method: &str, out: &str, more: &[&str]| {
        world.write("scenario.ron", &scenario(method, PROTOCOLS[0].1));
        world.run(out, more).succeeded();
        std::fs::read_to_string(world.path(out).join("scenario.ron")).expect("the run keeps its scenario")
    };
    let published = resolved(
        "FedAdam(beta1: 0.25)",
        "published",
        &["--set", "fidelity=FedLlmBench", "--set", "data.masking=ByConstruction"],
    );
    for part in [
        "OfFirstMoments",
        "FromFirstUpdate",
        "beta1: 0.25",
        "PythonSample",
        "Transformers",
        "PerMicroBatch",
        "RoundSeeded",
        "dropout: 0.05",
        "dropout_masks: Shared",
    ] {
        assert!(published.contains(part), "`{part}` is not in:\n{published}");
    }
    let papers = resolved("FedAdam()", "papers", &[]);
    for part in ["OfUpdates", "FromZero", "beta1: 0.9", "Uniform", "PyTorch", "PerToken", "Fresh", "dropout: 0.0"] {
        assert!(papers.contains(part), "`{part}` is not in:\n{papers}");
    }
    // What is written out is what is played: read under either fidelity it is the same run.
    world.write("scenario.ron", &papers);
    let said =
        world.run("again", &["--set", "fidelity=FedLlmBench", "--set", "data.masking=ByConstruction"]).succeeded();
    world.write("scenario.ron", &scenario("FedAdam()", PROTOCOLS[0].1));
    assert_eq!(said.summary("digest"), world.run("first", &[]).succeeded().summary("digest"));
}

#[test]
fn baselines_train_apart_or_together() {
    let world = World::new();
    world.write("scenario.ron", &scenario("Local", "Synchronous(clients_per_round: 6)"));
    world.run("local", &[]).succeeded();
    let adapters = files(&world.path("local/adapters"));
    let models: Vec<_> = adapters.iter().filter(|(name, _)| name.ends_with(".safetensors")).collect();
    assert_eq!(models.len(), 6, "each client has an adapter of its own");
    assert!(models.windows(2).all(|two| two[0].1 != two[1].1));
    // One client alone is what it is among others; its batches are by its place, which is the first in both.
    world.run("one", &["--set", r#"data.clients=["user-0"]"#]).succeeded();
    let one = files(&world.path("one/adapters"));
    let model = one.iter().find(|(name, _)| name.ends_with(".safetensors")).expect("its adapter");
    assert_eq!(model.1, models[0].1);
    world.run("few", &["--set", "server.protocol.clients_per_round=3"]).refused(2, &["3 of 6 clients"]);
    world.run("who", &["--set", r#"data.clients=["nobody"]"#]).refused(2, &["nobody"]);
    world.write("scenario.ron", &scenario("Centralised", "Synchronous(clients_per_round: 1)"));
    world.run("pooled", &[]).succeeded();
}

#[test]
fn dynamic_steps_follow_the_rows() {
    let world = World::new();
    world.write("scenario.ron", &scenario("FedAvg()", PROTOCOLS[0].1));
    world.edit("scenario.ron", "training: (", "training: (dynamic_steps: (epochs: 2), ");
    let plain = world.run("dynamic", &[]).succeeded();
    world.write("scenario.ron", &scenario("FedAvg()", PROTOCOLS[0].1));
    assert_ne!(plain.summary("digest"), world.run("fixed", &[]).succeeded().summary("digest"));
}
