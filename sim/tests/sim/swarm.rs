//! Ten thousand random small worlds: no invariant breaks, no run hangs, snapshots and forks keep the digest.
//!
//! `FEDREPLAY_SWARM=FIRST..END` plays other seeds. A failure names the seed; `play_world(SEED)` replays it.

use crate::random_world::{Dice, random_world};
use crate::world::{Run, collect, supply};
use fedreplay_sim::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// More events than any of these worlds needs; beyond it, a run hangs.
const EVENTS_MAX: u64 = 200_000;

/// Plays a simulation to its end, answering what policies ask for; returns it with its records.
fn play_to_end(mut simulation: Simulation) -> (Simulation, Run) {
    loop {
        assert!(simulation.events() < EVENTS_MAX, "the run hangs");
        match simulation.step().unwrap() {
            Step::Advanced => {}
            Step::Needs(task) => supply(&mut simulation, task),
            Step::Idle => break,
        }
    }
    let run = collect(&mut simulation);
    (simulation, run)
}

fn check_conservation(world: &Federation, run: &Run) {
    let ids: Vec<u64> = {
        let mut ids: Vec<u64> = run.tasks.iter().map(|task| task.task.0).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>(), "every dispatched task ends once");
    let dispatched = run.events.iter().filter(|event| event.kind == EventKind::Dispatched).count();
    assert_eq!(dispatched, run.tasks.len());
    let last = run.rounds.iter().map(|round| (round.aggregator, round)).collect::<BTreeMap<_, _>>();
    for (aggregator, last) in last {
        let of = |round: &&RoundRecord| round.aggregator == aggregator;
        let sum = |part: fn(&RoundRecord) -> u32| run.rounds.iter().filter(of).map(part).sum::<u32>();
        let ended = sum(|r| r.counted) + sum(|r| r.late) + sum(|r| r.dropped) + sum(|r| r.cancelled);
        assert_eq!(sum(|r| r.dispatched), ended + last.in_flight, "aggregator {aggregator}");
    }
    assert!(run.events.windows(2).all(|pair| (pair[0].at, pair[0].class) <= (pair[1].at, pair[1].class)));
    for round in &run.rounds {
        assert_eq!(round.counted as usize, round.counted_tasks.len());
        assert!(round.version.is_some() == (round.status == RoundStatus::Closed));
    }
    let versions: Vec<u32> = run.rounds.iter().filter_map(|round| round.version).collect();
    assert!(versions.windows(2).all(|pair| pair[0] + 1 == pair[1]) && versions.first().is_none_or(|v| *v == 1));
    let of_server = run.rounds.iter().filter(|round| round.aggregator == 0).count();
    let tiered = matches!(world.server.protocol, Protocol::Tiered(_));
    assert_eq!(if tiered { run.rounds.len() } else { of_server }, world.server.rounds as usize);
}

fn check_tasks(world: &Federation, run: &Run) {
    let mut free_at: BTreeMap<u32, Time> = BTreeMap::new();
    let mut tasks = run.tasks.clone();
    tasks.sort_by_key(|task| task.task);
    for task in &tasks {
        let free = free_at.insert(task.client, task.ended_at).unwrap_or(Time::ZERO);
        assert!(task.dispatched_at >= free, "client {} has one task at a time", task.client);
        assert_eq!(task.counted_in_version.is_some(), task.outcome == Outcome::Counted);
        let work = &world.works[world.clients[task.client as usize].work as usize];
        assert!(task.compute_flops <= work.flops);
        let overhead = world.links[world.clients[task.client as usize].link as usize].transport.overhead;
        for (bytes, on_wire) in [(task.bytes_down, task.wire_bytes_down), (task.bytes_up, task.wire_bytes_up)] {
            assert!(on_wire >= bytes && (overhead != Overhead::NONE || on_wire == bytes));
            assert!(bytes == 0 || overhead == Overhead::NONE || on_wire >= overhead.wire_bytes(bytes));
        }
        if task.outcome == Outcome::Counted {
            assert_eq!((task.compute_flops, task.bytes_up >= work.upload_bytes), (work.flops, true));
        }
        if world.interruption != Interruption::Restart {
            assert!(
                task.bytes_up <= work.upload_bytes
                    && task.bytes_down <= work.download_bytes + work.first_download_bytes
            );
        }
    }
}

/// Gives each link headers, and slow start to every second one.
fn set_transport(world: &mut Federation, seed: u64) {
    let overhead = Overhead { wire: 1538, payload: 1448, message_bytes: 100 };
    for (link, number) in world.links.iter_mut().zip(seed..) {
        let window = number.is_multiple_of(2).then_some(14_480);
        link.transport = Transport { overhead, connection: Connection { handshakes: 1, initial_window: window } };
    }
}

/// Gives transfers weights: by round trip in every second world, noise in two of three.
fn set_sharing(world: &mut Federation, seed: u64) {
    if seed.is_multiple_of(2) {
        let queue_bytes = seed % 5 * 10_000;
        world.sharing.weights = Weights::ByRoundTrip { least: Span::from_millis(1), queue_bytes };
    }
    if !seed.is_multiple_of(3) {
        world.sharing.noise = Quantiles::log_normal(1_000_000_000, 0.4, 64);
    }
}

/// Plays a world again with weights that are all equal, because no round trip is as long as the least one that counts: the general
/// form of the network has the same run as the fast one for equal shares.
fn play_with_equal_weights(world: &Federation, run: &Run) {
    let mut weighted = world.clone();
    weighted.sharing.weights = Weights::ByRoundTrip { least: Span::from_secs(3_600), queue_bytes: 0 };
    assert_eq!(&play_to_end(Simulation::new(weighted).unwrap()).1, run, "equal weights are equal shares");
}

/// Plays one world whole; then again, stored and taken up at a random event; then as a fork without a change.
fn play_world(seed: u64) {
    let mut world = random_world(seed);
    if seed % 3 == 1 {
        set_transport(&mut world, seed);
    }
    if seed % 4 == 1 {
        set_sharing(&mut world, seed / 4);
    }
    let Ok(start) = Simulation::new(world.clone()) else { return };
    let (whole, run) = play_to_end(start.clone());
    check_conservation(&world, &run);
    check_tasks(&world, &run);
    if seed % 4 == 2 {
        play_with_equal_weights(&world, &run);
    }
    let mut dice = Dice::new(!seed);
    let cut = dice.below(whole.events());
    let mut half = start;
    while half.events() < cut {
        match half.step().unwrap() {
            Step::Needs(task) => supply(&mut half, task),
            Step::Advanced => {}
            Step::Idle => break,
        }
    }
    let bytes = half.snapshot();
    let restored = Simulation::restore(&bytes).unwrap();
    assert_eq!(restored.snapshot(), bytes, "equal states have equal bytes");
    assert_eq!(play_to_end(restored).1, run, "restored at event {cut}");
    let fork = half.fork(Intervention::None).unwrap();
    assert_eq!(play_to_end(fork).1, run, "forked at event {cut}");
    if let Ok(fork) = half.fork(change(&mut dice, &world)) {
        let (changed, run) = play_to_end(fork);
        check_conservation(changed.federation(), &run);
        check_tasks(changed.federation(), &run);
    }
}

fn change(dice: &mut Dice, world: &Federation) -> Intervention {
    match dice.below(5) {
        0 => Intervention::Drop(dice.below(world.clients.len() as u64) as u32),
        1 => Intervention::Add(world.clients[0]),
        2 => Intervention::SetCapacity { link: 0, capacity: Capacity::constant(Rate::from_bits_per_s(900_000)) },
        3 => Intervention::SetSelection(Selection::RoundRobin),
        _ => Intervention::Reseed { purpose: Purpose::Dropout, seed: Seed(99) },
    }
}

fn swarm(seeds: Range<u64>) {
    for seed in seeds {
        if catch_unwind(AssertUnwindSafe(|| play_world(seed))).is_err() {
            panic!("the world of seed {seed} fails: {:#?}", random_world(seed));
        }
    }
}

/// The seeds to play, quarter `part` of four: tests of one binary run in parallel.
fn quarter(part: u64) -> Range<u64> {
    let seeds = std::env::var("FEDREPLAY_SWARM").unwrap_or_else(|_| "0..10000".into());
    let (first, end) = seeds.split_once("..").expect("FEDREPLAY_SWARM=FIRST..END");
    let (first, end): (u64, u64) = (first.parse().unwrap(), end.parse().unwrap());
    let at = |part: u64| first + (end - first) * part / 4;
    at(part)..at(part + 1)
}

#[test]
fn swarm_first_quarter() {
    swarm(quarter(0));
}

#[test]
fn swarm_second_quarter() {
    swarm(quarter(1));
}

#[test]
fn swarm_third_quarter() {
    swarm(quarter(2));
}

#[test]
fn swarm_last_quarter() {
    swarm(quarter(3));
}

/// The random worlds reach what they are meant to reach.
#[test]
fn the_swarm_sees_every_outcome_and_failure() {
    let (mut outcomes, mut failures) = (BTreeMap::new(), BTreeMap::new());
    let mut refused = 0;
    for seed in 0..600 {
        let Ok(simulation) = Simulation::new(random_world(seed)) else {
            refused += 1;
            continue;
        };
        let (_, run) = play_to_end(simulation);
        run.tasks.iter().for_each(|task| *outcomes.entry(task.outcome).or_insert(0) += 1);
        for round in &run.rounds {
            if let RoundStatus::Failed(failure) = round.status {
                *failures.entry(failure.name()).or_insert(0) += 1;
            }
        }
    }
    assert!(refused < 60, "{refused} worlds are refused");
    assert_eq!(outcomes.len(), 12, "{outcomes:?}");
    assert!(failures.len() >= 3, "{failures:?}");
}
