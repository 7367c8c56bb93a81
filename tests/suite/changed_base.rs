//! Methods that change the base: what each adds to the frozen weights, computed again from the updates of runs, and what becomes of the
//! change in files, exports and later commands.

use std::path::Path;

use fedreplay::adapter::{Adapter, Layout, ModuleChange, read_saved};
use fedreplay::ledger::RunTables;
use safetensors::SafeTensors;

use super::federated_lora::{EVERYONE, MIXED, Played, scenario};
use crate::support::World;

pub(super) const SAVE_ALL: [&str; 2] = ["--set", "output.save_adapter_every=1"];

pub(super) fn saved(played: &Played, round: usize) -> Adapter {
    read_saved(&played.world.path(&format!("run/adapters/round-{round:05}"))).expect("a saved adapter")
}

/// The places of an adapter's modules in the order of their names, in which `Played` has them.
pub(super) fn by_name(layout: &Layout) -> Vec<usize> {
    let mut places: Vec<usize> = (0..layout.modules.len()).collect();
    places.sort_by_key(|&place| &layout.modules[place].path);
    places
}

/// The elements of the change of each module's weight, one module after another.
pub(super) fn elements(adapter: &Adapter) -> Vec<f64> {
    let mut all = Vec::new();
    for index in by_name(&adapter.layout) {
        let module = &adapter.layout.modules[index];
        let (inputs, outputs) = (module.in_features, module.out_features);
        let mut sums = vec![0.0; inputs * outputs];
        match adapter.base_change.as_ref().map(|change| &change.modules[index]) {
            None => {}
            Some(ModuleChange::Dense(values)) => {
                sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum = f64::from(value));
            }
            Some(ModuleChange::Factors { columns, rows, .. }) => {
                for (column, row) in columns.chunks_exact(outputs).zip(rows.chunks_exact(inputs)) {
                    for (place, sum) in sums.iter_mut().enumerate() {
                        *sum += f64::from(column[place / inputs]) * f64::from(row[place % inputs]);
                    }
                }
            }
        }
        all.extend(sums);
    }
    all
}

fn is_dense(adapter: &Adapter) -> bool {
    let change = adapter.base_change.as_ref().expect("a change");
    change.modules.iter().all(|module| matches!(module, ModuleChange::Dense(_)))
}

/// Relative distance of two vectors.
pub(super) fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let apart = square(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    (apart / square(&mut expected.iter().copied())).sqrt()
}

/// The mean of the products s B A of a round's updates, with the weights of the ledger.
pub(super) fn mean_of_products(played: &Played, round: usize) -> Vec<f64> {
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let weights = tables.tasks().expect("tasks").numbers("weight").expect("weights");
    let mut weights = weights.into_iter().flatten();
    let mut mean = vec![0.0; elements(&saved(played, 1)).len()];
    let mut total = 0.0;
    for training in &played.trainings {
        let weight = weights.next().expect("a weight");
        if training.from == round as u64 {
            total += weight;
            mean.iter_mut().zip(played.products(&training.adapter)).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    assert!((total - 1.0).abs() < 1e-12);
    mean
}

#[test]
fn flora_adds_the_mean_of_products_to_the_base_and_begins_anew() {
    let rounds = 8;
    let sets = [&MIXED[..], &SAVE_ALL, &["--set", "rounds=8"]].concat();
    let played = Played::new("Flora", "FedAvg()", EVERYONE, &sets);
    let ranks = played.ranks();
    assert!(ranks.contains(&1) && ranks.contains(&2), "{ranks:?}");
    let second = played.of_second_rank();
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let errors = tables.rounds().numbers("aggregation_error").expect("errors");
    let mut before = vec![0.0; elements(&saved(&played, 1)).len()];
    for (round, recorded) in errors.into_iter().enumerate() {
        let start = &played.models[round];
        for (value, is_of_a) in start.iter().zip(&played.is_of_a) {
            assert_eq!(*value == 0.0, !is_of_a, "B begins with zeros, and A does not");
        }
        for training in played.trainings.iter().filter(|training| training.from == round as u64) {
            assert_ne!(played.changes(start, &training.adapter), [false, false]);
            let is_cut = second.iter().all(|&place| training.adapter[place] == 0.0);
            assert_eq!(is_cut, ranks[training.client as usize] == 1);
        }
        let after = elements(&saved(&played, round + 1));
        let added: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let apart = distance(&added, &mean_of_products(&played, round));
        assert!(apart < 1e-5, "round {}: {apart}", round + 1);
        // While factors are added to factors, the rounding of these is all that is lost.
        let recorded = recorded.expect("an error");
        if !is_dense(&saved(&played, round + 1)) {
            assert!((recorded - apart).abs() < 0.01 * apart, "{recorded} for {apart}");
        }
        assert!((1e-9..1e-6).contains(&recorded), "round {}: {recorded}", round + 1);
        assert_eq!(played.changes(start, &played.models[round + 1]), [true, false], "a new A");
        before = after;
    }
    assert!(!is_dense(&saved(&played, 1)) && is_dense(&saved(&played, rounds)));
    let norms = tables.rounds().numbers("update_norm").expect("norms");
    assert_eq!(norms, vec![None; rounds], "two draws of A are no update");
    assert_commands(&played, &sets);
}

#[test]
fn fedex_lora_adds_what_the_mean_of_factors_lacks() {
    let played = Played::new("FedExLora", "FedProx(mu: 0.1)", EVERYONE, &SAVE_ALL);
    let mut before = vec![0.0; elements(&saved(&played, 1)).len()];
    for round in 0..4 {
        let after = elements(&saved(&played, round + 1));
        let product = played.products(&played.models[round + 1]);
        let whole: Vec<f64> = after.iter().zip(&product).map(|(change, product)| change + product).collect();
        let mean = mean_of_products(&played, round);
        let expected: Vec<f64> = before.iter().zip(&mean).map(|(before, mean)| before + mean).collect();
        let apart = distance(&whole, &expected);
        assert!(apart < 1e-5, "round {}: {apart}", round + 1);
        // Without the change of the base it is another model.
        let lacking = distance(&product, &mean);
        assert!(lacking > 1e-3, "round {}: {lacking}", round + 1);
        before = after;
    }
    assert_commands(&played, &SAVE_ALL);
}

/// What reads a run reads the change of the base, too.
pub(super) fn assert_commands(played: &Played, sets: &[&str]) {
    let world = &played.world;
    world.fedreplay(&["verify", "run"]).succeeded();
    for more in [&[][..], &["--round", "3"], &["--client", "1"]] {
        world.fedreplay(&[&["replay", "run", "--store", "none"], more].concat()).succeeded();
    }
    let digest = |more: &[&str]| {
        world.fedreplay(&[&["run", "scenario.ron"], sets, more].concat()).succeeded().summary("digest").to_owned()
    };
    let one = digest(&["--out", "one", "--store", "none", "--workers", "1"]);
    assert_eq!(one, digest(&["--out", "two", "--store", "another", "--workers", "2"]));
    assert_eq!(one, digest(&["--out", "again", "--store", "another"]), "models of the store have their change");
    world.fedreplay(&["diff", "one", "two"]).succeeded();

    // The base with the change and the adapter, as one model.
    world.fedreplay(&["export", "run", "--to", "peft", "--merged", "--out", "merged"]).succeeded();
    let last_round = played.models.len() - 1;
    let last = saved(played, last_round);
    let [base, merged] = ["base", "merged"].map(|folder| weights(&world.path(folder), &last));
    let added: Vec<f64> = merged.iter().zip(&base).map(|(merged, base)| merged - base).collect();
    let product = played.products(played.models.last().expect("a model"));
    let whole: Vec<f64> = elements(&last).iter().zip(&product).map(|(change, product)| change + product).collect();
    let apart = distance(&added, &whole);
    assert!(apart < 1e-3, "differences of f32 weights: {apart}");

    // PEFT's adapters have the change as ranks, while it is held in factors.
    world.fedreplay(&["export", "run", "--to", "peft", "--round", "1", "--out", "peft"]).succeeded();
    let exported = fedreplay::adapter::peft::read_folder(&world.path("peft")).expect("PEFT's folder").adapter;
    assert_eq!(exported.layout.scale(), 1.0);
    let first = saved(played, 1);
    let product = played.products(&played.models[1]);
    let whole: Vec<f64> = elements(&first).iter().zip(&product).map(|(change, product)| change + product).collect();
    assert!(distance(&products_of(&exported), &whole) < 1e-6);
    if is_dense(&last) {
        let export = ["export", "run", "--to", "peft", "--out", "refused"];
        world.fedreplay(&export).refused(2, &["its base has changed by more than an adapter holds", "--merged"]);
        assert!(!world.path("refused").exists());
    }

    // Nothing of PEFT's is there that would be read without the change.
    let name = format!("adapters/round-{last_round:05}");
    let folder = world.path("run").join(&name);
    let names: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a name").file_name()).collect();
    assert_eq!(names, ["adapter_and_base_change.safetensors"]);
    let file = folder.join(&names[0]);
    let mut bytes = std::fs::read(&file).expect("a file");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&file, bytes).expect("a writable file");
    let said = world.fedreplay(&["verify", "run"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stdout.contains(&name), "{}", said.stdout);
}

/// The products s B A of an adapter, one module after another.
fn products_of(adapter: &Adapter) -> Vec<f64> {
    let layout = &adapter.layout;
    let mut all = Vec::new();
    for place in by_name(layout) {
        let (module, (a, b)) = (&layout.modules[place], layout.ranges()[place].clone());
        for row in adapter.values[b].chunks_exact(layout.rank) {
            for input in 0..module.in_features {
                let of_a = adapter.values[a.clone()].iter().skip(input).step_by(module.in_features);
                all.push(
                    layout.scale() * row.iter().zip(of_a).map(|(&b, &a)| f64::from(b) * f64::from(a)).sum::<f64>(),
                );
            }
        }
    }
    all
}

/// The weights of the adapted modules of a model's folder, one module after another.
fn weights(folder: &Path, adapter: &Adapter) -> Vec<f64> {
    let bytes = std::fs::read(folder.join("model.safetensors")).expect("weights");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut all = Vec::new();
    for place in by_name(&adapter.layout) {
        let module = &adapter.layout.modules[place];
        let tensor = file.tensor(&format!("{}.weight", module.path)).expect("a weight");
        let values =
            tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")));
        all.extend(values.map(f64::from));
    }
    all
}

/// In the first round both reach the mean of the products, of the same updates.
#[test]
fn flora_and_fedex_lora_are_one_model_after_the_first_round() {
    let [flora, fedex] = ["Flora", "FedExLora"].map(|method| Played::new(method, "FedAvg()", 4, &SAVE_ALL));
    let whole = |played: &Played| -> Vec<f64> {
        let product = played.products(&played.models[1]);
        elements(&saved(played, 1)).iter().zip(&product).map(|(change, product)| change + product).collect()
    };
    let apart = distance(&whole(&flora), &whole(&fedex));
    assert!(apart < 1e-6, "{apart}");
}

#[test]
fn a_change_of_the_base_is_charged_to_those_who_receive_it() {
    let modules = |played: &Played| -> Vec<[u64; 2]> {
        let layout = saved(played, 4).layout;
        layout.modules.iter().map(|module| [module.in_features as u64, module.out_features as u64]).collect()
    };
    for (method, own) in [("Flora", 0), ("FedExLora", 1)] {
        // Everyone takes part in every round: a client receives what six clients of rank 2 have sent, at most.
        let played = Played::new(method, "FedAvg()", EVERYONE, &[]);
        let [a, b] = played.sizes();
        let change = |rank: u64| -> u64 {
            modules(&played).iter().map(|[inputs, outputs]| (rank * (inputs + outputs)).min(inputs * outputs)).sum()
        };
        assert!(change(12) < change(1000), "factors are fewer than elements here");
        assert_eq!(played.traffic(2), (4 * (change(12) + own * (a + b)), 4 * (a + b)), "{method}");
        // Otherwise a client may lack all rounds.
        let some = Played::new(method, "FedAvg()", 3, &[]);
        assert_eq!(some.traffic(2), (4 * (change(2 * 3 * 4) + own * (a + b)), 4 * (a + b)), "{method}");
    }
}

#[test]
fn clients_may_compress_what_they_send_without_memory() {
    let sets = ["--set", "server.uplink_codec=Int8", "--set", "output.save_adapter_every=1"];
    let played = Played::new("Flora", "FedAvg()", 4, &sets);
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let mut weights = tables.tasks().expect("tasks").numbers("weight").expect("weights").into_iter().flatten();
    let mut mean = vec![0.0; elements(&saved(&played, 1)).len()];
    for training in played.trainings.iter().filter(|training| training.from == 0) {
        assert_ne!(training.adapter, training.received);
        let weight = weights.next().expect("a weight");
        mean.iter_mut().zip(played.products(&training.received)).for_each(|(sum, value)| *sum += weight * value);
    }
    assert!(distance(&elements(&saved(&played, 1)), &mean) < 1e-5);
}

#[test]
fn what_does_not_go_with_a_change_of_the_base_is_named() {
    let world = World::new();
    let refusals = [
        (
            "Flora",
            "algorithm=FedAdam()",
            "algorithm: it does not go with FLoRA: what is added to the base is made from a mean",
        ),
        ("FedExLora", "algorithm=Scaffold()", "algorithm: it does not go with FedEx-LoRA"),
        ("Flora", "algorithm=FedAvg(mean: Products)", "algorithm.mean: it does not go with FLoRA"),
        ("FedExLora", r#"privacy={"FedLlmBenchDp":{}}"#, "privacy: it does not go with FedEx-LoRA"),
        ("Flora", "server.aggregation=Median", "server.aggregation: it does not go with FLoRA"),
        (
            "FedExLora",
            "server.protocol=Asynchronous(concurrency: 2)",
            "server.protocol: it does not go with FedEx-LoRA",
        ),
        ("Flora", "training.optimizer_state=Kept", "training.optimizer_state: it does not go with FLoRA"),
        ("Flora", "server.uplink_codec=SignSgd()", "what error feedback remembers is of an adapter"),
        ("FedExLora", r#"model.lora.ranks={"quick": 1}"#, "FedEx-LoRA has one rank"),
    ];
    for (method, set, reason) in refusals {
        world.write("scenario.ron", &scenario(method, "FedAvg()", 3));
        world.run("refused", &["--set", set]).refused(2, &[reason]);
    }
    assert!(!world.path("refused").exists());
}

#[test]
fn more_clients_than_there_are_and_earlier_phases_are_charged_for_what_they_can_change() {
    let down = |sets: &[&str]| Played::new("FedExLora", "FedAvg()", EVERYONE, sets).traffic(3).0;
    let everyone = down(&[]);
    assert_eq!(down(&["--set", "server.protocol.Synchronous.clients_per_round=60"]), everyone);
    // The change of rounds with six clients is received in rounds with one.
    let change = r#"changes=[(at_round: 3, set: ["server.protocol.Synchronous.clients_per_round=1"])]"#;
    let played = Played::new("FedExLora", "FedAvg()", EVERYONE, &["--set", change]);
    let layout = saved(&played, 4).layout;
    let elements: usize = layout.modules.iter().map(|module| module.in_features * module.out_features).sum();
    let own: u64 = played.sizes().iter().sum();
    assert_eq!(played.traffic(3).0, 4 * (elements as u64 + own));
}

#[test]
fn a_model_that_has_diverged_is_recorded_and_replayed() {
    let sets = [
        &SAVE_ALL[..],
        &["--set=rounds=2", "--set=attackers=(clients: Number(5), attack: Noise(deviation: 1e30))"],
        // All elements of the change, whose sum is beyond f32.
        &["--set=model.lora.rank=64", "--set=model.lora.alpha=64"],
    ];
    let world = World::new();
    world.write("scenario.ron", &scenario("Flora", "FedAvg()", EVERYONE));
    world.run("run", &sets.concat()).succeeded();
    let saved = read_saved(&world.path("run/adapters/round-00001")).expect("a saved adapter");
    assert!(!saved.is_finite());
    world.fedreplay(&["verify", "run"]).succeeded();
    world.fedreplay(&["replay", "run", "--store", "none"]).succeeded();
}

#[test]
fn an_adapter_of_a_changed_base_is_no_start_and_its_file_has_no_more_than_it_says() {
    let played = Played::new("Flora", "FedAvg()", 3, &SAVE_ALL);
    let folder = played.world.path("run/adapters/round-00001");
    let initial = format!("--set=model.lora.initial={}", folder.display());
    played
        .world
        .run("refused", &[&initial])
        .refused(2, &["it is of a base that a run has changed", "export RUN --to peft"]);
    let adapter = saved(&played, 1);
    let stray = format!("base_change.{}.dense", adapter.layout.modules[0].path);
    let bytes = std::fs::read(folder.join("adapter_and_base_change.safetensors")).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let renamed = |name: &str| if name.ends_with(".columns") { stray.clone() } else { name.to_owned() };
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
    let views = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| !name.ends_with(".rows"))
        .map(|(name, view)| (renamed(&name), view));
    let views: std::collections::BTreeMap<_, _> = views.collect();
    let forged = safetensors::serialize(views, header.metadata().clone()).expect("a file");
    let error = Adapter::from_bytes(&forged).expect_err("the shape is another");
    assert!(error.to_string().contains(&stray), "{error}");
    // Rows without columns belong to nothing.
    let views = file.tensors().into_iter().filter(|(name, _)| !name.ends_with(".columns"));
    let forged = safetensors::serialize(views, header.metadata().clone()).expect("a file");
    let error = Adapter::from_bytes(&forged).expect_err("rows alone");
    assert!(error.to_string().contains("belongs to no adapted module"), "{error}");
}
