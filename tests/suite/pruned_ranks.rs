//! HetLoRA's pruning of ranks: ranks, what is sent, and the server's models, computed again from the trainings of runs.

use std::collections::BTreeMap;

use fedreplay::ledger::{EvalSubject, Lineage, RunTables, read_table};

use super::federated_lora::{EVERYONE, MIXED, Played, scenario};
use super::recomputed::Training;
use crate::support::World;

/// A rank that halves: what is after the half is shrunk strongly, so that it becomes smaller in most tasks.
const METHOD: &str = "HetLoraPruning(gamma: 0.5, lambda: 10)";

const WIDE: [&str; 4] = ["--set", "rounds=6", "--set", "evaluation.every=6"];

/// Places of the components from `from` to below `to` of a module: those of A, and those of B.
fn places([a, b]: &[std::ops::Range<usize>; 2], from: usize, to: usize) -> [Vec<usize>; 2] {
    let width = a.len() / 2;
    let of_b = b.clone().filter(|place| (from..to).contains(&((place - b.start) % 2)));
    [(a.start + from * width..a.start + to * width).collect(), of_b.collect()]
}

/// The sum over modules of the product of the norms of A's rows and B's columns.
fn size(played: &Played, adapter: &[f64], from: usize, to: usize) -> f64 {
    let norm = |places: &[usize]| places.iter().map(|&place| adapter[place].powi(2)).sum::<f64>().sqrt();
    played.modules().iter().map(|module| places(module, from, to).map(|of| norm(&of))).map(|[a, b]| a * b).sum()
}

/// An adapter of which only the first components are left.
fn cut(played: &Played, adapter: &[f64], rank: usize) -> Vec<f64> {
    let mut cut = adapter.to_vec();
    for module in played.modules() {
        places(&module, rank, 2).concat().into_iter().for_each(|place| cut[place] = 0.0);
    }
    cut
}

/// Returns the ranks of the clients after a run, and how often one was pruned, after checks of all that was sent and averaged.
fn ranks_after(played: &Played) -> (BTreeMap<u64, usize>, usize) {
    let mut ranks: BTreeMap<u64, usize> = played
        .ranks()
        .iter()
        .map(|&rank| rank as usize)
        .enumerate()
        .map(|(client, rank)| (client as u64, rank))
        .collect();
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let tasks = tables.tasks().expect("tasks");
    let mut weights = tasks.numbers("weight").expect("weights").into_iter().flatten();
    // Tasks that do not count have no ranks.
    let mut recorded = Vec::new();
    for column in ["rank_before", "rank_after"] {
        let ranks = tasks.counts_or_none(column).expect("ranks");
        assert!(
            ranks
                .iter()
                .zip(tasks.numbers("weight").expect("weights"))
                .all(|(rank, weight)| rank.is_some() == weight.is_some())
        );
        recorded.push(ranks.into_iter().flatten());
    }
    let mut pruned = 0;
    for (round, pair) in played.models.windows(2).enumerate() {
        let updates: Vec<&Training> =
            played.trainings.iter().filter(|training| training.from == round as u64).collect();
        let mut norms = Vec::new();
        for update in &updates {
            let rank = ranks[&update.client];
            let start = cut(played, &pair[0], rank);
            // What the client does not have stays zero in training.
            assert_eq!(update.adapter, cut(played, &update.adapter, rank), "client {} has rank {rank}", update.client);
            assert_ne!(update.adapter, start);
            let left = (rank / 2).max(1);
            let has_shrunk = size(played, &update.adapter, left, rank) < size(played, &start, left, rank);
            let after = if has_shrunk { left } else { rank };
            pruned += usize::from(after < rank);
            assert_eq!(recorded[0].next(), Some(rank as u64), "round {}, client {}", round + 1, update.client);
            assert_eq!(recorded[1].next(), Some(after as u64), "round {}, client {}", round + 1, update.client);
            ranks.insert(update.client, after);
            assert_eq!(
                update.received,
                cut(played, &update.adapter, after),
                "round {}, client {}",
                round + 1,
                update.client
            );
            let squares = played.products(&update.received).iter().map(|value| value * value).sum::<f64>();
            norms.push(squares.sqrt());
        }
        // The server's rule is that of HetLoRA, of what it has received.
        let total: f64 = norms.iter().sum();
        let mut expected = vec![0.0; pair[0].len()];
        for (update, norm) in updates.iter().zip(&norms) {
            let weight = weights.next().expect("a weight");
            assert!((weight / (norm / total) - 1.0).abs() < 1e-9, "{weight} for {}", norm / total);
            expected.iter_mut().zip(&update.received).for_each(|(sum, value)| *sum += weight * value);
        }
        for (found, expected) in pair[1].iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-7, "{found} for {expected}");
        }
    }
    (ranks, pruned)
}

#[test]
fn clients_give_up_components_that_have_shrunk_and_keep_their_ranks() {
    let sets = [&WIDE[..], &["--set", "evaluation.fine_tuning_steps=2"]].concat();
    let played = Played::new(METHOD, "FedAvg()", 4, &sets);
    let (ranks, pruned) = ranks_after(&played);
    assert!(pruned > 1, "{ranks:?}");
    assert!(ranks.values().any(|&rank| rank == 1), "{ranks:?}");
    // In the first round B is zero, and nothing can become smaller.
    for training in played.trainings.iter().filter(|training| training.from == 0) {
        assert_eq!(training.adapter, training.received);
    }
    // Tasks are charged the rank that clients begin with.
    let values = played.is_of_a.len() as u64;
    for round in 1..=6 {
        assert_eq!(played.traffic(round), (4 * values, 4 * values));
    }
    // Models that are fine-tuned have the ranks of their clients.
    let world = &played.world;
    let evaluations = RunTables::read(&world.path("run")).expect("tables").evaluations().expect("evaluations");
    let tuned = evaluations.iter().filter(|row| row.subject == EvalSubject::FineTuned).count();
    assert_eq!(tuned, EVERYONE as usize);
    let lineage = read_table(&world.path("run"), "lineage").expect("a lineage");
    let lineage = Lineage::of(&lineage).expect("rows of lineage");
    let of_kind = |kind: &str| lineage.entries.iter().filter(|entry| entry.kind == kind).count();
    assert_eq!([of_kind("pruned_rank"), of_kind("pruned")], [played.trainings.len(); 2]);

    world.fedreplay(&["verify", "run"]).succeeded();
    for more in [&[][..], &["--round", "4"], &["--client", "1"]] {
        world.fedreplay(&[&["replay", "run", "--store", "none"], more].concat()).succeeded();
    }
}

#[test]
fn ranks_survive_kills_forks_other_workers_and_decisions_that_read_losses() {
    let world = World::new();
    world.write("scenario.ron", &scenario(METHOD, "FedAvg()", 3));
    world.assert_state_survives();
}

#[test]
fn devices_have_their_rank_until_clients_prune_it() {
    // Small steps at the end, after which a component that is shrunk is smaller.
    let sets = [&WIDE[..], &MIXED, &["--set", "training.lr_schedule=Cosine(final_lr: 1e-4)"]].concat();
    let played = Played::new(METHOD, "FedProx(mu: 0.1)", EVERYONE, &sets);
    let before = played.ranks();
    let (ranks, pruned) = ranks_after(&played);
    assert!(pruned > 0, "{ranks:?}");
    assert!(before.contains(&1) && before.contains(&2), "{before:?}");
    assert!(ranks.iter().all(|(&client, &rank)| rank as u64 <= before[client as usize] && rank > 0), "{ranks:?}");
    let tasks = RunTables::read(&played.world.path("run")).expect("tables").tasks().expect("tasks");
    let column = |name: &str| tasks.counts(name).expect("counts");
    let values = played.is_of_a.len() as u64;
    for (client, up) in column("client").into_iter().zip(column("bytes_up")) {
        assert_eq!(up, 4 * values * before[client as usize] / 2, "client {client}");
    }
    played.world.fedreplay(&["replay", "run", "--store", "none"]).succeeded();
}

/// With gamma near to 1 and rank 2 the last component is shrunk, and without a weight nothing is shrunk but where training does it.
#[test]
fn without_a_weight_training_is_that_of_hetlora_until_a_rank_is_pruned() {
    let free = Played::new("HetLoraPruning(gamma: 0.99, lambda: 0)", "FedAvg()", 4, &[]);
    let plain = Played::new("HetLora", "FedAvg()", 4, &[]);
    let shrunk = Played::new("HetLoraPruning(gamma: 0.99, lambda: 10)", "FedAvg()", 4, &[]);
    let first = |played: &Played| -> Vec<Vec<f64>> {
        let of_round = played.trainings.iter().filter(|training| training.from == 0);
        of_round.map(|training| training.adapter.clone()).collect()
    };
    assert_eq!(first(&free), first(&plain));
    assert_eq!(free.models[1], plain.models[1]);
    assert_ne!(first(&shrunk), first(&plain), "the second step sees B");
    ranks_after(&free);
}

#[test]
fn what_does_not_go_with_pruning_is_named_and_what_is_a_bound() {
    let world = World::new();
    world.write("scenario.ron", &scenario("HetLoraPruning()", "FedAvg()", 3));
    let said = world.fedreplay(&["scenario", "check", "scenario.ron", "--no-trial"]).succeeded();
    assert!(said.stdout.contains("are those of ranks before pruning"), "{}", said.stdout);
    let refusals = [
        ("federated_lora.HetLoraPruning.gamma=1", "gamma=1: 1 is out of range: it must be above 0 and below 1"),
        ("federated_lora.HetLoraPruning.gamma=0", "gamma=0: 0 is out of range: it must be above 0 and below 1"),
        ("federated_lora.HetLoraPruning.lambda=-1", "lambda=-1: -1 is out of range: it must be at least 0"),
        ("training.optimizer_state=Kept", "training.optimizer_state: it does not go with HetLoRA with pruning"),
        ("server.uplink_codec=Int8", "server.uplink_codec: it does not go with HetLoRA with pruning"),
        (
            "attackers=(clients: Number(1), attack: SignFlip(factor: 1))",
            "attackers: it does not go with HetLoRA with pruning",
        ),
        ("algorithm=FedAdam()", "algorithm: it does not go with HetLoRA with pruning"),
        ("algorithm.FedAvg.weights=Uniform", "algorithm.weights: it does not go with HetLoRA with pruning"),
        (r#"privacy={"FedLlmBenchDp":{}}"#, "privacy: it does not go with HetLoRA with pruning"),
        ("server.aggregation=Median", "server.aggregation: it does not go with HetLoRA with pruning"),
        ("server.protocol=Asynchronous(concurrency: 2)", "server.protocol: it does not go with HetLoRA with pruning"),
    ];
    for (set, reason) in refusals {
        world.write("scenario.ron", &scenario("HetLoraPruning()", "FedAvg()", 3));
        world.run("refused", &["--set", set]).refused(2, &[reason]);
    }
    assert!(!world.path("refused").exists());
}
