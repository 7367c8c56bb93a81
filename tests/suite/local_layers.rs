//! Methods that share the adapters of the first layers, while each client keeps those of the last ones: FedPer and FedRep.

use std::collections::BTreeSet;

use fedreplay::adapter::Adapter;
use fedreplay::adapter::peft;
use fedreplay::ledger::{EvalSubject, RunTables};

use super::federated_lora::{EVERYONE, Played, scenario};
use super::recomputed;
use crate::support::World;

/// Layers of the base model with an adapter, all of them.
const LAYERS: usize = 4;

/// Rows that do not depend on the round, so that another run can draw the same.
const SAME_ROWS: [&str; 2] = ["--set", "training.batches=SamePrefix"];

/// Whether each value of a run's adapters is in the last `count` layers, in the order of the stored tensors.
fn is_local(played: &Played, count: usize) -> Vec<bool> {
    let layers = recomputed::layers(&played.world.path("run"), &played.world.path("store"));
    layers.into_iter().map(|layer| layer >= LAYERS - count).collect()
}

/// The adapter that a run has saved.
fn saved(world: &World, folder: &str) -> Adapter {
    peft::read_folder(&world.path(folder)).expect("saved").adapter
}

/// Whether each value of an adapter is in the last `count` layers, in the order of its layout.
fn is_local_in(adapter: &Adapter, count: usize) -> Vec<bool> {
    let mut found = Vec::new();
    for module in &adapter.layout.modules {
        let values = adapter.layout.rank * (module.in_features + module.out_features);
        let layer: usize = module.path.split('.').nth(2).expect("a layer").parse().expect("a number");
        found.extend(std::iter::repeat_n(layer >= LAYERS - count, values));
    }
    found
}

/// The second round is training alone from what each client had after the first, with a mean over the first layers.
#[test]
fn a_round_of_fedper_is_training_alone_and_a_mean_of_the_first_layers() {
    let sets = ["--set=rounds=2", "--set=evaluation.every=1", "--set=output.save_adapter_every=1"];
    let sets = [&SAME_ROWS[..], &sets].concat();
    let played = Played::new("FedPer(local_layers: 3)", "FedAvg(weights: Uniform)", EVERYONE, &sets);
    let world = &played.world;
    let alone: Vec<Adapter> = (0..EVERYONE)
        .map(|client| {
            let out = format!("alone-{client}");
            let initial = world.path(&format!("run/adapters/round-00001/client-{client}"));
            let from = format!("--set=model.lora.initial={}", initial.display());
            let command = ["run", "scenario.ron", "--out", &out, "--store", "none", &from];
            let sets = ["--set=federated_lora=FedIt", "--set=algorithm=Local", "--set=rounds=1"];
            world.fedreplay(&[&command[..], &sets, &SAME_ROWS].concat()).succeeded();
            saved(world, &format!("{out}/adapters/round-00001/client-{client}"))
        })
        .collect();
    let is_local = is_local_in(&alone[0], 3);
    for client in 0..EVERYONE {
        let after = saved(world, &format!("run/adapters/round-00002/client-{client}"));
        for (place, &found) in after.values.iter().enumerate() {
            if is_local[place] {
                assert_eq!(found, alone[client as usize].values[place], "client {client} goes on from its own layers");
            } else {
                let sum: f64 = alone.iter().map(|adapter| f64::from(adapter.values[place])).sum();
                assert!((f64::from(found) - sum / f64::from(EVERYONE)).abs() <= 1e-7);
            }
        }
    }
    let own: BTreeSet<_> = (0..EVERYONE).map(|client| alone[client as usize].hash().to_string()).collect();
    assert_eq!(own.len(), EVERYONE as usize, "clients differ");
}

#[test]
fn only_the_first_layers_travel_and_the_server_has_no_others() {
    // Two rounds of two clients: some are never asked.
    let sets = ["--set=rounds=2", "--set=evaluation.local_baseline=true"];
    for (method, local) in [("FedPer(local_layers: 1)", 1), ("FedRep(local_layers: 3)", 3)] {
        let played = Played::new(method, "FedAvg()", 2, &sets);
        let world = &played.world;
        let is_local = is_local(&played, local);
        let shared = is_local.iter().filter(|is_local| !**is_local).count() as u64;
        assert_eq!(shared * LAYERS as u64, is_local.len() as u64 * (LAYERS - local) as u64);
        assert_eq!([1, 2].map(|round| played.traffic(round)), [(4 * shared, 4 * shared); 2]);
        let changes = |before: &[f64], after: &[f64]| {
            [false, true].map(|local| (0..before.len()).any(|at| is_local[at] == local && before[at] != after[at]))
        };
        for pair in played.models.windows(2) {
            assert_eq!(changes(&pair[0], &pair[1]), [true, false]);
        }
        for training in &played.trainings {
            assert_eq!(changes(&played.models[training.from as usize], &training.adapter), [true, true]);
        }
        let asked: BTreeSet<u64> = played.trainings.iter().map(|training| training.client).collect();
        let kept = recomputed::adapters(&world.path("run"), &world.path("store"), "kept");
        assert_eq!(kept.len(), played.trainings.len());
        for (kept, training) in kept.iter().zip(&played.trainings) {
            let expected = training.adapter.iter().zip(&is_local);
            let expected: Vec<f64> = expected.map(|(&value, &local)| if local { value } else { 0.0 }).collect();
            assert_eq!(*kept, expected);
        }
        // Who was never asked is judged by the server's model, whose last layers are the initial ones.
        let rows = RunTables::read(&world.path("run")).expect("tables").evaluations().expect("evaluations");
        let last = |subject| rows.iter().filter(move |row| row.round == 2 && row.subject == subject);
        assert_eq!(last(EvalSubject::Global).count(), 0, "there is no model of the server");
        assert_eq!(last(EvalSubject::Personal).count(), EVERYONE as usize);
        assert_eq!(last(EvalSubject::Local).count(), EVERYONE as usize);
        let mut hashes = BTreeSet::new();
        for row in last(EvalSubject::Personal) {
            let client = row.client.expect("a client");
            let model = saved(world, &format!("run/adapters/round-00002/client-{client}"));
            assert_eq!(row.model_hash.as_deref(), Some(&*model.hash().to_string()));
            if !asked.contains(&u64::from(client)) {
                hashes.insert(model.hash().to_string());
            }
        }
        let server = RunTables::read(&world.path("run")).expect("tables");
        let server = server.rounds().texts("model_hash").expect("hashes")[1].expect("a model").to_owned();
        assert_eq!(hashes, BTreeSet::from([server]));
        assert!(!world.path("run/adapters/round-00002/adapter_model.safetensors").exists());
        world.fedreplay(&["verify", "run"]).succeeded();
        for more in [&[][..], &["--round", "2"], &["--client", "1"]] {
            world.fedreplay(&[&["replay", "run", "--store", "none"], more].concat()).succeeded();
        }
        let export = ["export", "run", "--to", "peft", "--store", "store", "--out", "peft"];
        world.fedreplay(&export).refused(2, &["each client has a model of its own, which --client selects"]);
        world.fedreplay(&[&export[..], &["--client", "0"]].concat()).succeeded();
        // One codec for what is sent, which is eight bytes for each tenth value.
        let codec = ["run", "scenario.ron", "--out", "codec", "--set", "server.uplink_codec=TopK(share: 0.1)"];
        world.fedreplay(&[&codec[..], &sets].concat()).succeeded();
        let tasks = RunTables::read(&world.path("codec")).expect("tables").tasks().expect("tasks");
        assert!(tasks.counts("bytes_up").expect("bytes").iter().all(|&bytes| bytes == 8 * (shared / 10)));
    }
}

/// One step of gradient descent moves each part as if the other were fixed.
#[test]
fn fedrep_trains_the_last_layers_first() {
    let one_step = [
        "--set=training.optimizer=Sgd(momentum: 0)",
        "--set=training.max_grad_norm=null",
        "--set=training.lr=0.5",
        "--set=rounds=1",
        "--set=training.local_steps=2",
    ];
    let play = |method: &str, more: &[&str]| {
        Played::new(method, "FedAvg()", EVERYONE, &[&SAME_ROWS[..], &one_step, more].concat())
    };
    let fedrep = play("FedRep(local_layers: 2)", &[]);
    let fedper = play("FedPer(local_layers: 2)", &["--set=training.local_steps=1"]);
    let is_local = is_local(&fedrep, 2);
    let start = &fedrep.models[0];
    for (one, other) in fedrep.trainings.iter().zip(&fedper.trainings) {
        assert_eq!(one.client, other.client);
        let mut shared = 0;
        for (place, &is_local) in is_local.iter().enumerate() {
            match is_local {
                true => assert_eq!(one.adapter[place], other.adapter[place], "the first step is theirs"),
                false => shared += usize::from(one.adapter[place] != start[place]),
            }
        }
        assert!(shared > 0, "the second step trains the others");
    }
}

#[test]
fn a_robust_rule_and_the_error_of_the_aggregation_see_what_is_shared() {
    let bound = 1e-3;
    let first = Played::new("FedPer(local_layers: 2)", "FedAvg()", EVERYONE, &["--set=rounds=2"]);
    // The last layers of this start are not zero, so their products are not, either.
    let initial = first.world.path("run/adapters/round-00002/client-0");
    let initial = format!("--set=model.lora.initial={}", initial.display());
    let rule = format!("--set=server.aggregation=NormBounding(bound: {bound})");
    let bounded = Played::new("FedPer(local_layers: 2)", "FedAvg(weights: Uniform)", 3, &[&initial, &rule]);
    let is_sent: Vec<bool> = is_local(&bounded, 2).into_iter().map(|is_local| !is_local).collect();
    bounded.assert_bounded(bound, &is_sent);
    let plain = Played::new("FedPer(local_layers: 2)", "FedAvg()", 3, &[&initial]);
    let tables = RunTables::read(&plain.world.path("run")).expect("tables");
    let mut rounds = 0;
    tables
        .visit_aggregation(|_, rows| {
            rounds += 1;
            for row in rows {
                let layer: usize = row.module.split('.').nth(2).expect("a layer").parse().expect("a number");
                let has_error = row.error.is_some_and(|error| error > 0.0) && row.norm > 0.0;
                assert_eq!(has_error, layer < LAYERS - 2, "{row:?}");
                assert!(has_error || (row.norm, row.error) == (0.0, None), "{row:?}");
            }
        })
        .expect("a table");
    assert_eq!(rounds, 4);
    plain.world.fedreplay(&["verify", "run"]).succeeded();
}

#[test]
fn layers_of_clients_survive_kills_forks_other_workers_and_decisions_that_read_losses() {
    for method in ["FedPer(local_layers: 2)", "FedRep(local_layers: 2)"] {
        let world = World::new();
        world.write("scenario.ron", &scenario(method, "FedAvg()", 3));
        world.assert_state_survives();
    }
}

#[test]
fn splits_name_what_they_do_not_go_with() {
    let world = World::new();
    let both = [
        ("algorithm=FedProx()", "algorithm: it does not go with"),
        ("algorithm=Scaffold()", "algorithm: it does not go with"),
        ("algorithm=Local", "algorithm: it does not go with"),
        ("server.protocol=Buffered(concurrency: 3, buffer_size: 2)", "server.protocol: it does not go with"),
        (r#"privacy={"FedLlmBenchDp":{}}"#, "privacy: it does not go with"),
        (r#"model.lora.ranks={"quick": 1}"#, "has one rank"),
        (r#"server.aggregation={"FlTrust":{"speed":"1 TFLOP/s"}}"#, "data.root_file"),
    ];
    for method in ["FedPer", "FedRep"] {
        let split = format!("{method}(local_layers: 1)");
        let refused = |sets: &[&str], reasons: &[&str]| {
            world.write("scenario.ron", &scenario(&split, "FedAvg()", 3));
            let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
            world.run("refused", &sets).refused(2, reasons);
        };
        for (set, reason) in both {
            refused(&[set], &[reason]);
        }
        let trust = r#"server.aggregation={"FlTrust":{"speed":"1 TFLOP/s"}}"#;
        refused(&[trust, r#"data.root_file="data.json""#], &["server.aggregation: FlTrust does not go with", method]);
        refused(&[&format!("federated_lora={method}(local_layers: 0)")], &["local_layers", "must be at least 1"]);
        for layers in [4, 5] {
            let set = format!("federated_lora={method}(local_layers: {layers})");
            let message = format!("federated_lora.local_layers: it is {layers}, and must be less than 4");
            refused(&[&set], &[&message]);
            for command in [&["scenario", "check"][..], &["plan"]] {
                world.fedreplay(&[command, &["scenario.ron", "--set", &set]].concat()).refused(2, &[&message]);
            }
        }
    }
    world.write("scenario.ron", &scenario("FedRep()", "FedAvg()", 3));
    let of_fedrep = [
        ("training.optimizer_state=Kept", "training.optimizer_state: it does not go with FedRep"),
        ("training.dynamic_steps=(epochs: 1)", "training.dynamic_steps: it does not go with FedRep"),
        (
            "training.local_steps=1",
            "federated_lora.local_layer_steps: it is 1, and must be less than training.local_steps",
        ),
        ("federated_lora=FedRep(local_layer_steps: 0)", "must be at least 1"),
        (
            "federated_lora=FedRep(local_layer_steps: 9)",
            "it is 9, and must be less than training.local_steps, which is 2",
        ),
    ];
    for (set, reason) in of_fedrep {
        world.run("refused", &["--set", set]).refused(2, &[reason]);
    }
    assert!(!world.path("refused").exists());
}
