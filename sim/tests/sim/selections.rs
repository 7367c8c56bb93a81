//! Each selection played whole, against rounds worked out by hand. A task of client i takes `i + 4` seconds: 1 s of
//! download, `i + 1` s of training, and 2 s of upload. Where a selection draws, the world leaves its draws no choice.

use crate::world::*;
use fedreplay_sim::*;

/// Four clients, of whom `cohort` are asked a round.
fn world(selection: Selection, cohort: u32, rounds: u32) -> Federation {
    let mut world = federation(4, synchronous(cohort, 0, None), rounds);
    world.devices =
        (1..=4).map(|seconds| Device { flops_per_s: 2_000_000_000u64.div_ceil(seconds), ..device(1) }).collect();
    (0..4).for_each(|i| world.clients[i].device = i as u32);
    world.server.selection = selection;
    world
}

/// Rounds as `opened-closed [clients that counted]`, in whole seconds; losses are reported by `loss`.
fn rounds(federation: Federation, loss: impl Fn(u32) -> f64) -> Vec<String> {
    let clients = federation.clients.len() as u32;
    let mut simulation = Simulation::new(federation).unwrap();
    let mut client_of = std::collections::BTreeMap::new();
    let mut rounds = Vec::new();
    loop {
        let step = simulation.step().unwrap();
        for record in simulation.drain() {
            match record {
                Record::Task(task) => {
                    client_of.insert(task.task, task.client);
                }
                Record::Round(round) => rounds.push(text(&round)),
                Record::Event(_) => {}
            }
        }
        match step {
            Step::Needs(task) => {
                assert!(client_of[&task] < clients);
                simulation.supply(task, TaskReport::from_loss(loss(client_of[&task])));
            }
            Step::Advanced => {}
            Step::Idle => return rounds,
        }
    }
}

fn text(round: &RoundRecord) -> String {
    let seconds = |time: Time| (time.0 + 500_000_000) / 1_000_000_000;
    let counted: Vec<String> = round.counted_tasks.iter().map(|task| task.client.to_string()).collect();
    format!("{}-{} [{}]", seconds(round.opened_at), seconds(round.closed_at), counted.join(" "))
}

fn no_result(_: u32) -> f64 {
    unreachable!("this selection reads no result")
}

/// With as many wanted as there are, uniform selection has no choice; with one, nobody is asked twice at once.
#[test]
fn uniform_rounds() {
    assert_eq!(rounds(world(Selection::Uniform, 4, 2), no_result), ["0-7 [0 1 2 3]", "7-14 [0 1 2 3]"]);
}

/// At rate 1 everyone is in every round, whatever the cohort.
#[test]
fn poisson_rounds() {
    let rate = Probability::ONE;
    assert_eq!(rounds(world(Selection::Poisson { rate }, 1, 2), no_result), ["0-7 [0 1 2 3]", "7-14 [0 1 2 3]"]);
}

/// Client 2 has all but 3 of four thousand million rows.
#[test]
fn rounds_by_size() {
    let mut world = world(Selection::BySize, 1, 2);
    (0..4).for_each(|i| world.clients[i].samples = if i == 2 { 4_000_000_000 } else { 1 });
    assert_eq!(rounds(world, no_result), ["0-6 [2]", "6-12 [2]"]);
}

#[test]
fn round_robin_rounds() {
    let expected = ["0-5 [0 1]", "5-12 [2 3]", "12-17 [0 1]"];
    assert_eq!(rounds(world(Selection::RoundRobin, 2, 3), no_result), expected);
}

/// Clients 0 and 1 go offline a second after each full minute begins: only 2 and 3 stay for their tasks.
#[test]
fn availability_aware_rounds() {
    let mut world = world(Selection::AvailabilityAware, 2, 2);
    let online = vec![(Time::from_secs(0), Time::from_secs(1)), (Time::from_secs(7), Time::from_secs(8))];
    world.availabilities.push(Availability::Trace { online, period: Some(Span::from_secs(60)) });
    (0..2).for_each(|i| world.clients[i].availability = 1);
    assert_eq!(rounds(world, no_result), ["0-7 [2 3]", "7-14 [2 3]"]);
}

/// Who has never reported comes first, lowest number first; then the greatest loss, which is client 1's, every time.
#[test]
fn power_of_choice_rounds() {
    let loss = |client| [0.5, 2.0, 1.0, 1.5][client as usize];
    let expected = ["0-5 [0 1]", "5-12 [2 3]", "12-19 [1 3]", "19-26 [1 3]"];
    assert_eq!(rounds(world(Selection::PowerOfChoice { draw: 4 }, 2, 4), loss), expected);
}

/// Two rounds explore all four, two at a time, since that is all that is asked for. Then nobody is unknown, and the cut
/// at the second best utility admits the two with the greatest losses only.
#[test]
fn oort_rounds() {
    let oort = Oort {
        explore: Probability::ONE,
        explore_decay: Probability::ONE,
        explore_min: Probability::ZERO,
        preferred: Span::from_secs(60),
        penalty: 2,
        cutoff: Probability::ONE,
    };
    let mut world = world(Selection::Oort(oort), 2, 4);
    (0..4).for_each(|i| world.clients[i].device = 0);
    let rounds = rounds(world, |client| [0.1, 8.0, 0.1, 10.0][client as usize]);
    let asked: String = rounds[..2].concat();
    assert!((0..4).all(|client| asked.split(['[', ']', ' ']).any(|word| word == client.to_string())), "{asked}");
    assert_eq!(rounds[2..], ["8-12 [1 3]", "12-16 [1 3]"]);
}

/// CPython 3: `random.seed(r); sorted(random.sample(range(4), 2))` for r = 0, 1, 2, 3.
#[test]
fn python_sample_rounds() {
    let expected = ["0-7 [1 3]", "7-13 [1 2]", "13-20 [0 3]", "20-26 [1 2]"];
    assert_eq!(rounds(world(Selection::PythonSample, 2, 4), no_result), expected);
}
