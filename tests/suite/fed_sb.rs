//! Fed-SB: what is trained, sent and received, computed again from the updates of runs, and where its initial adapter comes from.

use fedreplay::adapter::{Adapter, peft, read_saved};
use fedreplay::ledger::{RunTables, TableView};

use super::changed_base::by_name;
use super::compression::int8;
use super::federated_lora::{EVERYONE, Played, scenario};
use super::methods::PROTOCOLS;
use super::recomputed::{self, Optimizer};
use crate::support::{World, until_rounds};

const METHOD: &str = "FedSb(init_samples: 5)";

/// Values of A and B, and those of R, by their places among a run's values: matrices go by name, and R follows A and B of its module.
fn places(played: &Played) -> [Vec<usize>; 2] {
    let matrices = recomputed::matrices(&played.world.path("run"), &played.world.path("store"));
    let mut found = [vec![], vec![]];
    let mut start = 0;
    for (index, length) in matrices.into_iter().enumerate() {
        found[usize::from(index % 3 == 2)].extend(start..start + length);
        start += length;
    }
    found
}

fn counts(tasks: &TableView, column: &str) -> Vec<u64> {
    tasks.counts(column).expect("counts")
}

/// Checks the bytes of tasks: the first one of each client takes `once` in addition.
#[track_caller]
fn assert_traffic(played: &Played, once: u64, down: u64, up: u64) {
    let tasks = RunTables::read(&played.world.path("run")).expect("tables").tasks().expect("tasks");
    let mut known = std::collections::BTreeSet::new();
    let transfers = counts(&tasks, "bytes_down").into_iter().zip(counts(&tasks, "bytes_up"));
    let mut later = 0;
    for (client, (found_down, found_up)) in counts(&tasks, "client").into_iter().zip(transfers) {
        let is_first = known.insert(client);
        later += u32::from(!is_first);
        assert_eq!(found_down, down + if is_first { once } else { 0 }, "client {client}");
        assert_eq!(found_up, up, "client {client}");
    }
    assert!(later > 3, "{later} tasks are not the first of their clients");
}

#[test]
fn r_alone_is_trained_sent_and_averaged_and_b_and_a_are_received_once() {
    for algorithm in ["FedAvg()", "FedProx(mu: 0.1)", "FedAvgM()", "FedAdam()", "Scaffold()"] {
        let played = Played::new(METHOD, algorithm, 4, &["--set", "evaluation.local_baseline=true"]);
        let (run, store) = (played.world.path("run"), played.world.path("store"));
        let name = algorithm.split('(').next().expect("a name");
        if name != "Scaffold" {
            assert_eq!(recomputed::check(&run, &store, "synchronous", &mut Optimizer::new(name)), 4);
        }
        let [factors, core] = places(&played);
        let start = &played.models[0];
        for adapter in played.models[1..].iter().chain(played.trainings.iter().map(|training| &training.adapter)) {
            assert!(factors.iter().all(|&place| adapter[place] == start[place]), "{algorithm}: B or A moved");
            assert!(core.iter().any(|&place| adapter[place] != start[place]), "{algorithm}: R stayed");
        }
        // Control variates are of R.
        let sent = 4 * core.len() as u64 * if name == "Scaffold" { 2 } else { 1 };
        assert_traffic(&played, 4 * factors.len() as u64, sent, sent);
        let errors = RunTables::read(&run).expect("tables");
        for error in errors.rounds().numbers("aggregation_error").expect("errors") {
            assert!(error.expect("a mean of products") < 1e-6);
        }
    }
}

/// Returns whether a column of a factor is as long as another, and orthogonal to it.
fn gram(columns: &[Vec<f64>]) -> Vec<f64> {
    let mut products = Vec::new();
    for one in columns {
        products.extend(columns.iter().map(|other| one.iter().zip(other).map(|(x, y)| x * y).sum::<f64>()));
    }
    products
}

/// s B R A is -eta sign(G) cut to rank 2, so no element is above eta times the root of both widths, and eta follows from the scenario.
#[test]
fn the_initial_adapter_is_a_step_of_the_size_that_the_scenario_gives() {
    let played = Played::new(METHOD, "FedAvg()", 3, &["--set=output.save_adapter_every=1"]);
    let first = read_saved(&played.world.path("run/adapters/round-00001")).expect("a saved adapter");
    let layout = first.layout.clone();
    assert!(layout.has_core);
    let core = places(&played)[1].clone();
    for (place, matrix) in by_name(&layout).into_iter().zip(core.chunks_exact(4)) {
        let module = &layout.modules[place];
        let [first, zero, other_zero, second] = [0, 1, 2, 3].map(|at| played.models[0][matrix[at]]);
        // Eight steps have a warmup of one step, so that eta is the learning rate. R has it over s.
        let step_size = 1e-2 / layout.scale();
        let most = step_size * ((module.in_features * module.out_features) as f64).sqrt();
        assert_eq!([zero, other_zero], [0.0; 2]);
        assert!(first >= second && second > 0.0 && first * first + second * second <= most * most, "{first} {second}");
        // Random signs would have singular values of about the sum of the roots of both widths.
        assert!(first > 0.5 * step_size * (module.in_features.max(module.out_features) as f64).sqrt());
    }
    for ((a, b), module) in layout.ranges().into_iter().zip(&layout.modules) {
        let value = |place: usize| f64::from(first.values[place]);
        let rows: Vec<Vec<f64>> = (0..2)
            .map(|row| (0..module.in_features).map(|at| value(a.start + row * module.in_features + at)).collect())
            .collect();
        let columns: Vec<Vec<f64>> =
            (0..2).map(|column| b.clone().skip(column).step_by(2).map(value).collect()).collect();
        for (found, expected) in gram(&rows).into_iter().chain(gram(&columns)).zip([1.0, 0.0, 0.0, 1.0].repeat(2)) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }
    // A step twice as long has R twice as great, and the same factors; other rows have others.
    let doubled = Played::new("FedSb(init_samples: 5, init_step_size: 0.02)", "FedAvg()", 3, &[]);
    let [factors, core] = places(&played);
    assert!(factors.iter().all(|&place| doubled.models[0][place] == played.models[0][place]));
    assert!(core.iter().all(|&place| (doubled.models[0][place] - 2.0 * played.models[0][place]).abs() < 1e-7));
    let others = Played::new(METHOD, "FedAvg()", 3, &["--set", "model.lora.init_seed=9"]);
    assert!(factors.iter().any(|&place| others.models[0][place] != played.models[0][place]));
    let more = Played::new("FedSb(init_samples: 20)", "FedAvg()", 3, &[]);
    assert!(factors.iter().any(|&place| more.models[0][place] != played.models[0][place]));
}

/// Returns s B A of an adapter in the place of its module, one module after another.
fn products(adapter: &Adapter) -> Vec<f64> {
    let layout = &adapter.layout;
    let mut all = Vec::new();
    for (module, (a, b)) in layout.modules.iter().zip(layout.ranges()) {
        for row in adapter.values[b].chunks_exact(layout.rank) {
            for input in 0..module.in_features {
                let of_a = adapter.values[a.clone()].iter().skip(input).step_by(module.in_features);
                let sum: f64 = row.iter().zip(of_a).map(|(&b, &a)| f64::from(b) * f64::from(a)).sum();
                all.push(layout.scale() * sum);
            }
        }
    }
    all
}

#[test]
fn saved_adapters_keep_r_and_exports_have_it_in_b() {
    let played = Played::new(METHOD, "FedAvg()", 3, &[]);
    let world = &played.world;
    let folder = world.path("run/adapters/round-00004");
    let names: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a name").file_name()).collect();
    assert_eq!(names, ["adapter_with_core.safetensors"]);
    let saved = read_saved(&folder).expect("a saved adapter");
    let expected: Vec<f64> = products(&saved.with_core_in_b());
    world.fedreplay(&["export", "run", "--to", "peft", "--out", "peft"]).succeeded();
    let exported = peft::read_folder(&world.path("peft")).expect("PEFT's folder").adapter;
    assert_eq!((exported.layout.rank, exported.layout.scale(), exported.layout.has_core), (2, 2.0, false));
    let largest = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    assert!(largest > 1e-3);
    for (found, expected) in products(&exported).iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-6 * largest, "{found} for {expected}");
    }
    world.fedreplay(&["export", "run", "--to", "peft", "--merged", "--out", "merged"]).succeeded();
    let [base, merged] = ["base", "merged"].map(|model| {
        let bytes = std::fs::read(world.path(model).join("model.safetensors")).expect("weights");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let mut all = Vec::new();
        for module in &saved.layout.modules {
            let view = file.tensor(&format!("{}.weight", module.path)).expect("a weight");
            let values =
                view.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
            all.extend(values.map(f64::from));
        }
        all
    });
    for ((merged, base), expected) in merged.iter().zip(&base).zip(&expected) {
        assert!((merged - base - expected).abs() <= 1e-6, "{merged} - {base} for {expected}");
    }
    // The run's adapter is no start of another run, but what is exported is.
    let initial = format!("--set=model.lora.initial={}", folder.display());
    world.write("scenario.ron", &scenario("FedIt", "FedAvg()", 3));
    world.run("refused", &[&initial]).refused(2, &["it has matrices R between its factors", "export RUN --to peft"]);
    world.run("tuned", &["--set=model.lora.initial=peft"]).succeeded();
    // Its losses are those of the run but for rounding.
    let [run, tuned] = [("run", 4), ("tuned", 0)].map(|(out, round)| {
        let evaluations = RunTables::read(&world.path(out)).expect("tables").evaluations().expect("evaluations");
        let rows = evaluations.into_iter().filter(|row| row.round == round && row.client.is_some());
        rows.map(|row| row.loss.expect("a loss")).collect::<Vec<f64>>()
    });
    assert!(!run.is_empty() && run.len() == tuned.len());
    for (run, tuned) in run.iter().zip(&tuned) {
        assert!((run - tuned).abs() < 1e-5, "{run} for {tuned}");
    }
    let file = folder.join("adapter_with_core.safetensors");
    let mut bytes = std::fs::read(&file).expect("a file");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&file, bytes).expect("a writable file");
    let said = world.fedreplay(&["verify", "run"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
}

#[test]
fn r_is_encoded_both_ways_and_optimizers_keep_their_moments() {
    let sets = [
        "--set=server.downlink_codec=Int8",
        "--set=server.uplink_codec=TopK(share: 0.25)",
        "--set=training.optimizer_state=Kept",
    ];
    let played = Played::new(METHOD, "FedAvg()", EVERYONE, &sets);
    let (run, store) = (played.world.path("run"), played.world.path("store"));
    assert_eq!(recomputed::check(&run, &store, "synchronous", &mut Optimizer::new("FedAvg")), 4);
    let [factors, core] = places(&played);
    let values = core.len() as u64;
    let modules = values / 4;
    // A matrix of four values takes a scale and four codes; a quarter of all values is sent with their places.
    let tasks = RunTables::read(&run).expect("tables").tasks().expect("tasks");
    let up = counts(&tasks, "bytes_up")[0];
    assert!(up < 4 * values, "{up}");
    assert_traffic(&played, 4 * factors.len() as u64, modules * (4 + 4), up);
    let matrices = recomputed::matrices(&run, &store);
    for (version, received) in recomputed::received_models(&run, &store) {
        let model = &played.models[version as usize];
        let decoded = int8(model, &matrices);
        assert!(factors.iter().all(|&place| received[place] == model[place]));
        assert!(core.iter().all(|&place| (received[place] - decoded[place]).abs() < 1e-7));
    }
    played.world.fedreplay(&["verify", "run"]).succeeded();
    played.world.fedreplay(&["replay", "run", "--store", "none"]).succeeded();
}

#[test]
fn every_protocol_but_that_of_edges_averages_r() {
    for (name, protocol) in PROTOCOLS {
        if name == "hierarchical" {
            let world = World::new();
            world.write("scenario.ron", &scenario(METHOD, "FedAvg()", 3));
            let sets = [format!("--set=server.protocol={protocol}"), "--set=population.mix.0.region=here".into()];
            let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
            world.run("refused", &sets).refused(2, &["server.protocol: it does not go with Fed-SB"]);
            continue;
        }
        let set = format!("--set=server.protocol={protocol}");
        let played = Played::new(METHOD, "FedAvg()", EVERYONE, &[&set]);
        let (run, store) = (played.world.path("run"), played.world.path("store"));
        assert!(recomputed::check(&run, &store, name, &mut Optimizer::new("FedAvg")) >= 2, "{name}");
        let [factors, _] = places(&played);
        for model in &played.models[1..] {
            assert!(factors.iter().all(|&place| model[place] == played.models[0][place]), "{name}");
        }
    }
}

#[test]
fn runs_have_one_digest_whatever_computes_them_and_go_on_after_a_kill() {
    let played = Played::new(METHOD, "FedAdam()", 4, &["--set=model.lora.dropout=0.1"]);
    let world = &played.world;
    world.fedreplay(&["verify", "run"]).succeeded();
    for more in [&[][..], &["--round", "1"], &["--round", "3"], &["--client", "1"]] {
        world.fedreplay(&[&["replay", "run", "--store", "none"], more].concat()).succeeded();
    }
    let command = ["run", "scenario.ron", "--set=model.lora.dropout=0.1", "--out"];
    let digest = |more: &[&str]| world.fedreplay(&[&command, more].concat()).succeeded().summary("digest").to_owned();
    let one = digest(&["one", "--store", "none", "--workers", "1"]);
    assert_eq!(one, digest(&["two", "--store", "another", "--workers", "2", "--threads", "2"]));
    assert_eq!(one, digest(&["again", "--store", "another"]), "results of the store");
    let long = ["--set=rounds=12", "--workers=1", "--store"];
    let mut child = world
        .command(&[&command[..], &["killed"], &long, &["killed-store"]].concat())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary can be run");
    until_rounds(&mut child, &world.path("killed"), "rounds", 2);
    child.kill().expect("it is still running");
    child.wait().expect("it was killed");
    let resumed = world.fedreplay(&["resume", "killed", "--store", "killed-store"]).succeeded();
    assert_eq!(resumed.summary("digest"), digest(&[&["whole"], &long[..], &["none"]].concat()));
}

#[test]
fn a_run_without_updates_ends_with_the_model_that_it_began_with() {
    let world = World::new();
    world.write("scenario.ron", &scenario(METHOD, "FedAvg()", 3));
    let lost = "--set=population.mix.0.dropout=(during_training: 1)";
    world.run("run", &[lost]).succeeded();
    assert!(world.fedreplay(&["verify", "run"]).succeeded().stdout.starts_with("whole: "));
    let said = world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial"]).succeeded();
    assert!(said.stdout.contains("before virtual time begins, from 5 rows of all clients"), "{}", said.stdout);
    let tables = RunTables::read(&world.path("run")).expect("tables");
    let keys = tables.rounds().texts("model_key").expect("keys");
    assert!(keys.len() == 4 && keys.iter().all(|key| key.is_some() && *key == keys[0]));
}

#[test]
fn quantized_bases_have_a_first_step_too() {
    for precision in ["Bf16", "Int8", "Nf4"] {
        let played = Played::new(METHOD, "FedAvg()", 3, &[&format!("--set=model.precision={precision}")]);
        let core = &places(&played)[1];
        assert!(core.chunks_exact(4).all(|matrix| played.models[0][matrix[0]] > 0.0), "{precision}");
        played.world.fedreplay(&["verify", "run"]).succeeded();
    }
}

#[test]
fn what_fed_sb_does_not_go_with_is_named() {
    let world = World::new();
    let privacy = r#"privacy={"UserLevel":{"clipping":{"Fixed":{"norm":0.1}},"noise_multiplier":1,"delta":1e-5}}"#;
    let refusals = [
        (privacy, "privacy: it does not go with Fed-SB: its first step reads rows of clients"),
        ("model.lora.initial=adapter", "model.lora.initial: it does not go with Fed-SB"),
        ("training.objective=Dpo", "training.objective: it does not go with Fed-SB"),
        (r#"algorithm=Python(file: "rule.py")"#, "algorithm: it does not go with Fed-SB"),
        ("algorithm=Local", "algorithm: it does not go with Fed-SB: nothing is exchanged"),
        (r#"model.lora.ranks={"quick": 1}"#, "model.lora.ranks: Fed-SB has one rank"),
        ("model.lora.rank=500", "model.lora.rank: it is 500, and must be at most "),
        ("federated_lora=FedSb(init_samples: 1000)", "federated_lora.init_samples: it is 1000, and must be at most "),
        ("federated_lora=FedSb(init_samples: 0)", "0 is out of range: it must be at least 1"),
        ("federated_lora=FedSb(init_step_size: 0)", "0 is out of range"),
    ];
    world.write("scenario.ron", &scenario(METHOD, "FedAvg(weights: Uniform)", 3));
    for (set, reason) in refusals {
        world.run("refused", &["--set", set]).refused(2, &[reason]);
        assert!(!world.path("refused").exists());
    }
    // Known only when the step is computed, so that the run has begun.
    let too_great = "federated_lora=FedSb(init_step_size: 1e300)";
    world.run("begun", &["--set", too_great]).refused(2, &["federated_lora.init_step_size is 1e300", "not finite"]);
}
