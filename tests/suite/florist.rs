//! FLoRIST: what it adds to the base, computed again from the updates of runs, and the bound of its transfers.

use fedreplay::adapter::{Adapter, ModuleChange};
use fedreplay::ledger::RunTables;

use super::changed_base::{SAVE_ALL, assert_commands, by_name, distance, elements, mean_of_products, saved};
use super::federated_lora::{EVERYONE, MIXED, Played, scenario};
use crate::support::World;

/// The ranks of the changes of the modules, in the order of their names; `None` where all elements are held.
fn ranks(adapter: &Adapter) -> Vec<Option<usize>> {
    let change = adapter.base_change.as_ref().expect("a change");
    let rank = |module: &ModuleChange| match module {
        ModuleChange::Factors { rank, .. } => Some(*rank),
        ModuleChange::Dense(_) => None,
    };
    by_name(&adapter.layout).into_iter().map(|place| rank(&change.modules[place])).collect()
}

/// The kept ranks in table `aggregation` by round, in the order of the modules' names.
fn recorded_ranks(tables: &RunTables) -> Vec<Vec<u64>> {
    let mut recorded = vec![Vec::new(); tables.rounds().len()];
    tables
        .visit_aggregation(|round, rows| {
            let mut by_name: Vec<_> = rows.iter().map(|row| (&row.module, row.kept_rank.expect("a rank"))).collect();
            by_name.sort_unstable();
            recorded[round] = by_name.into_iter().map(|(_, rank)| rank.into()).collect();
        })
        .expect("a table");
    recorded
}

/// The shapes of the modules, `[in, out]`, in the order of their names.
fn shapes(adapter: &Adapter) -> Vec<[usize; 2]> {
    let modules = &adapter.layout.modules;
    by_name(&adapter.layout)
        .into_iter()
        .map(|place| [modules[place].in_features, modules[place].out_features])
        .collect()
}

/// The sum of the squares of values.
fn energy(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

/// The square of the greatest singular value of a matrix by rows of this width, by power iteration: at most that, and near to it.
fn greatest_energy(matrix: &[f64], width: usize) -> f64 {
    let mut vector: Vec<f64> = (0..width).map(|place| 1.0 + (place % 7) as f64).collect();
    let mut found = 0.0;
    for _ in 0..50 {
        let length = energy(&vector).sqrt();
        let mut next = vec![0.0; width];
        found = 0.0;
        for row in matrix.chunks_exact(width) {
            let image = row.iter().zip(&vector).map(|(value, part)| value * part).sum::<f64>() / length;
            found += image * image;
            next.iter_mut().zip(row).for_each(|(sum, value)| *sum += image * value);
        }
        vector = next;
    }
    found
}

/// The energies of the products that a module's change has beyond its first `from`, which are orthogonal to each other.
fn added_energies(adapter: &Adapter, module: usize, from: usize) -> Vec<f64> {
    let place = by_name(&adapter.layout)[module];
    let shape = &adapter.layout.modules[place];
    let change = adapter.base_change.as_ref().expect("a change");
    let ModuleChange::Factors { columns, rows, .. } = &change.modules[place] else { unreachable!("it has a rank") };
    let square = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    let pairs = columns.chunks_exact(shape.out_features).zip(rows.chunks_exact(shape.in_features));
    pairs.skip(from).map(|(column, row)| square(column) * square(row)).collect()
}

/// A part of the mean is the best of its rank if what is left is orthogonal to it and has no greater singular value than it has (Eckart and
/// Young), and of the least rank if it has too little energy without its last product.
#[test]
fn florist_adds_the_least_rank_that_holds_the_energy_and_begins_anew() {
    let share = 0.8;
    let sets = [&MIXED[..], &SAVE_ALL].concat();
    let played = Played::new("Florist(threshold: 0.8)", "FedAvg()", EVERYONE, &sets);
    let clients = played.ranks();
    assert!(clients.contains(&1) && clients.contains(&2), "{clients:?}");
    let second = played.of_second_rank();
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let errors = tables.rounds().numbers("aggregation_error").expect("errors");
    let totals = tables.rounds().counts("kept_rank").expect("kept ranks");
    let recorded_ranks = recorded_ranks(&tables);
    let shapes = shapes(&saved(&played, 1));
    let mut before = vec![0.0; elements(&saved(&played, 1)).len()];
    let mut ranks_before = vec![Some(0); shapes.len()];
    let mut cut = 0;
    let mut compared = 0;
    for (round, recorded) in errors.into_iter().enumerate() {
        let start = &played.models[round];
        for (value, is_of_a) in start.iter().zip(&played.is_of_a) {
            assert_eq!(*value == 0.0, !is_of_a, "B begins with zeros, and A does not");
        }
        for training in played.trainings.iter().filter(|training| training.from == round as u64) {
            let is_cut = second.iter().all(|&place| training.adapter[place] == 0.0);
            assert_eq!(is_cut, clients[training.client as usize] == 1);
        }
        let next = saved(&played, round + 1);
        let after = elements(&next);
        let added: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let mean = mean_of_products(&played, round);
        let ranks_after = ranks(&next);
        let mut from = 0;
        for (module, [inputs, outputs]) in shapes.iter().enumerate() {
            let part = from..from + inputs * outputs;
            from = part.end;
            let (whole, kept) = (&mean[part.clone()], &added[part]);
            let left: Vec<f64> = whole.iter().zip(kept).map(|(whole, kept)| whole - kept).collect();
            assert!(energy(kept) >= (share - 1e-6) * energy(whole), "round {}, module {module}", round + 1);
            let together = kept.iter().zip(&left).map(|(kept, left)| kept * left).sum::<f64>();
            assert!(together.abs() < 1e-6 * energy(whole), "round {}: {together}", round + 1);
            let (Some(before), Some(after)) = (ranks_before[module], ranks_after[module]) else { continue };
            let energies = added_energies(&next, module, before);
            assert_eq!(energies.len(), after - before);
            assert_eq!(recorded_ranks[round][module] as usize, energies.len());
            compared += 1;
            assert!(energies.is_sorted_by(|one, next| one >= next));
            let (last, others) = energies.split_last().expect("a product");
            assert!(others.iter().sum::<f64>() < (share + 1e-6) * energy(whole), "a smaller rank holds enough");
            assert!(greatest_energy(&left, *inputs) <= (1.0 + 1e-6) * last, "what is left has a greater part");
            cut += usize::from(energies.len() < 10);
        }
        assert_eq!(totals[round], recorded_ranks[round].iter().sum::<u64>());
        let apart = distance(&added, &mean);
        let recorded = recorded.expect("an error");
        assert!((recorded - apart).abs() < 1e-5, "round {}: {recorded} for {apart}", round + 1);
        assert!(recorded <= (1.0 - share).sqrt() && recorded > 0.1, "round {}: {recorded}", round + 1);
        assert_eq!(played.changes(start, &played.models[round + 1]), [true, false], "a new A");
        before = after;
        ranks_before = ranks_after;
    }
    assert!(compared >= shapes.len(), "the ranks of a round at least");
    assert!(cut > 0, "no module kept fewer than all singular values");
    assert_commands(&played, &sets);
}

#[test]
fn changes_by_florist_survive_kills_forks_other_workers_and_decisions_that_read_losses() {
    let world = World::new();
    world.write("scenario.ron", &scenario("Florist()", "FedAvg()", 3));
    world.assert_state_survives();
}

#[test]
fn models_do_not_depend_on_the_order_in_which_clients_arrive() {
    for method in ["Flora", "Florist(threshold: 0.9)"] {
        let play = |quick: &str, slow: &str| {
            let devices = format!(
                r#"population.devices={{"quick": (speed: "{quick} MFLOP/s"), "slow": (speed: "{slow} MFLOP/s")}}"#
            );
            let sets = [&MIXED[..], &SAVE_ALL, &["--set", &devices]].concat();
            let played = Played::new(method, "FedAvg()", EVERYONE, &sets);
            let tasks = RunTables::read(&played.world.path("run")).expect("tables").tasks().expect("tasks");
            let rows = tasks.counts("client").expect("clients").into_iter();
            let mut arrivals: Vec<_> =
                tasks.counts("upload_done_at_ns").expect("times").into_iter().zip(rows).collect();
            arrivals.truncate(EVERYONE as usize);
            arrivals.sort_unstable();
            let order: Vec<u64> = arrivals.into_iter().map(|(_, client)| client).collect();
            (order, saved(&played, 4).hash())
        };
        let (one, model) = play("1000", "50");
        let (other, same) = play("50", "1000");
        assert_ne!(one, other);
        assert_eq!(model, same, "{method}");
    }
}

#[test]
fn the_forecast_says_that_bytes_are_a_bound() {
    let world = World::new();
    for (method, says) in [("Florist()", true), ("Flora", true), ("FedExLora", true), ("FlexLora", false)] {
        world.write("scenario.ron", &scenario(method, "FedAvg()", 3));
        let said = world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial"]).succeeded();
        assert_eq!(
            said.stdout.contains("bytes down are the most that the change of the base can take"),
            says,
            "{method}"
        );
    }
}

/// A task is charged ceiling(threshold R) products in a weight, with R the greatest rank of a mean, and no more than all elements.
#[test]
fn transfers_of_florist_have_a_bound_that_follows_from_shapes() {
    let charged = |played: &Played, threshold: f64, clients: usize, rounds: usize| -> u64 {
        let products = |[inputs, outputs]: [usize; 2]| {
            let rank = (threshold * (2 * clients).min(inputs).min(outputs) as f64).ceil() as usize;
            (rounds * rank * (inputs + outputs)).min(inputs * outputs)
        };
        shapes(&saved(played, 4)).into_iter().map(|shape| 4 * products(shape) as u64).sum()
    };
    for (method, threshold) in [("Florist()", 0.9), ("Florist(threshold: 0.5)", 0.5), ("Florist(threshold: 1)", 1.0)] {
        // Everyone takes part in every round, so that a task receives what one round has added.
        let everyone = Played::new(method, "FedAvg()", EVERYONE, &[]);
        let [a, b] = everyone.sizes();
        assert_eq!(everyone.traffic(2), (charged(&everyone, threshold, 6, 1), 4 * (a + b)), "{method}");
        for rank in ranks(&saved(&everyone, 2)).into_iter().flatten() {
            assert!(rank <= 2 * (threshold * 12.0).ceil() as usize, "{method}: {rank}");
        }
        // Otherwise a client may lack all rounds.
        let some = Played::new(method, "FedAvg()", 3, &[]);
        assert_eq!(some.traffic(2), (charged(&some, threshold, 3, 4), 4 * (a + b)), "{method}");
    }
}

#[test]
fn with_the_whole_energy_florist_is_flora() {
    let [flora, florist] =
        ["Flora", "Florist(threshold: 1)"].map(|method| Played::new(method, "FedAvg()", 4, &SAVE_ALL));
    let apart = distance(&elements(&saved(&flora, 1)), &elements(&saved(&florist, 1)));
    assert!(apart < 1e-6, "{apart}");
    let rank = |played: &Played| ranks(&saved(played, 1)).into_iter().flatten().max();
    assert!(rank(&florist) <= rank(&flora), "as few columns and rows as there are singular values");
}

#[test]
fn what_does_not_go_with_florist_is_named() {
    let world = World::new();
    let refusals = [
        ("federated_lora.Florist.threshold=0", "threshold=0: 0 is out of range: it must be above 0, at most 1"),
        ("federated_lora.Florist.threshold=1.1", "threshold=1.1: 1.1 is out of range: it must be above 0, at most 1"),
        ("federated_lora=Florist(threshold: -0.5)", "Florist(threshold: -0.5): -0.5 is out of range"),
        ("federated_lora.Florist.threshold=NaN", "threshold"),
        (
            "algorithm=FedAdam()",
            "algorithm: it does not go with FLoRIST: what is added to the base is made from a mean",
        ),
        ("algorithm=FedAvg(mean: Products)", "algorithm.mean: it does not go with FLoRIST"),
        (r#"privacy={"FedLlmBenchDp":{}}"#, "privacy: it does not go with FLoRIST"),
        ("server.aggregation=Median", "server.aggregation: it does not go with FLoRIST"),
        ("server.protocol=Asynchronous(concurrency: 2)", "server.protocol: it does not go with FLoRIST"),
        ("training.optimizer_state=Kept", "training.optimizer_state: it does not go with FLoRIST"),
        ("server.uplink_codec=SignSgd()", "server.uplink_codec: it does not go with FLoRIST"),
    ];
    for (set, reason) in refusals {
        world.write("scenario.ron", &scenario("Florist()", "FedAvg()", 3));
        world.run("refused", &["--set", set]).refused(2, &[reason]);
    }
    assert!(!world.path("refused").exists());
}

#[test]
fn clients_may_compress_what_they_send_and_a_diverged_model_is_recorded() {
    let sets = ["--set=server.uplink_codec=Int8", "--set=output.save_adapter_every=1"];
    let played = Played::new("Florist(threshold: 1)", "FedProx(mu: 0.1)", 4, &sets);
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let mut weights = tables.tasks().expect("tasks").numbers("weight").expect("weights").into_iter().flatten();
    let mut mean = vec![0.0; elements(&saved(&played, 1)).len()];
    for training in played.trainings.iter().filter(|training| training.from == 0) {
        let weight = weights.next().expect("a weight");
        mean.iter_mut().zip(played.products(&training.received)).for_each(|(sum, value)| *sum += weight * value);
    }
    assert!(distance(&elements(&saved(&played, 1)), &mean) < 1e-5);

    let world = World::new();
    world.write("scenario.ron", &scenario("Florist()", "FedAvg()", EVERYONE));
    let attack = "--set=attackers=(clients: Number(5), attack: Noise(deviation: 1e30))";
    world.run("run", &["--set=rounds=2", attack, "--set=output.save_adapter_every=1"]).succeeded();
    world.fedreplay(&["verify", "run"]).succeeded();
    world.fedreplay(&["replay", "run", "--store", "none"]).succeeded();
}
