//! Colluders of buffered aggregation, against timelines worked out by hand.

use crate::protocols::{rounds, seconds};
use crate::random_world::random_world;
use crate::world::*;
use fedreplay_sim::*;
use std::collections::BTreeMap;

fn buffered(concurrency: u32, buffer: u32) -> Protocol {
    Protocol::Buffered(Buffered { concurrency, buffer, staleness_max: None, losses_max: 99 })
}

/// Plays clients whose tasks take these whole seconds.
fn collude(tasks: &[u64], colluders: &[u32], protocol: Protocol, rounds: u32) -> Run {
    let mut world = seconds(tasks, protocol, rounds);
    world.colluders = colluders.iter().copied().collect();
    play(world)
}

/// Returns the whole seconds at which the updates of a client arrived.
fn arrivals(run: &Run, client: u32) -> Vec<u64> {
    let tasks = run.tasks.iter().filter(|task| task.client == client && task.outcome == Outcome::Counted);
    tasks.map(|task| task.upload_done_at.unwrap().0 / 1_000_000_000).collect()
}

#[test]
fn they_wait_for_each_other_and_for_room() {
    // Tasks of 4, 5 and 7 s. Alone, client 0 arrives at 4, 8 and 12, client 1 at 5 and 10, client 2 at 7.
    let honest = collude(&[4, 5, 7], &[], buffered(3, 3), 3);
    assert_eq!(rounds(&honest), ["0: 0-7 [0/0 1/0 2/0]", "0: 7-12 [0/1 0/0 1/1]", "0: 12-16 [0/0 1/1 2/1]"]);
    // Colluders 1 and 2 are ready at 5 and 7, with one update in the buffer: both arrive at 7. Their next ones are ready at 12 and
    // 14. Client 0 has then arrived at 8 and 12, so there is one place: they wait until it fills the buffer at 16.
    let run = collude(&[4, 5, 7], &[1, 2], buffered(3, 3), 3);
    assert_eq!(rounds(&run), ["0: 0-7 [0/0 1/0 2/0]", "0: 7-16 [0/1 0/0 0/0]", "0: 16-20 [0/0 1/1 2/1]"]);
    assert_eq!([arrivals(&run, 1), arrivals(&run, 2)], [vec![7, 16], vec![7, 16]]);
}

#[test]
fn more_than_a_buffer_wait_for_an_empty_one() {
    // Three colluders, ready at 4, 5 and 9, and two places. Client 3 would fill the second place at 6 and the next buffer's first
    // at 12. The buffer is empty until 6 and not after it.
    let run = collude(&[4, 5, 9, 6], &[0, 1, 2], buffered(4, 2), 2);
    // At 9 one place is left, and client 3 is under way until 12, when its two updates fill the buffer. Then two of the three
    // fill an empty one, and the third waits for the next.
    assert_eq!(rounds(&run), ["0: 0-12 [3/0 3/0]", "0: 12-12 [0/1 1/1]"]);
    let last = run.tasks.iter().find(|task| task.client == 2).unwrap();
    assert_eq!((last.outcome, last.upload_done_at, last.bytes_up), (Outcome::Cancelled, None, 1_000_000));
}

#[test]
fn a_client_that_is_about_to_get_a_task_can_fill_the_buffer() {
    // Three colluders are ready at 5, with one update in a buffer of three. Client 0 arrives at 8 and gets its next task at that
    // instant: it fills the buffer at 12, and theirs fill the next one.
    let run = collude(&[4, 5, 5, 5], &[1, 2, 3], buffered(4, 3), 2);
    assert_eq!(rounds(&run), ["0: 0-12 [0/0 0/0 0/0]", "0: 12-12 [1/1 2/1 3/1]"]);
}

#[test]
fn they_do_not_wait_where_nobody_else_can_fill_the_buffer() {
    // Ready at 4 and 6 with an empty buffer of three; at 10 and 12 with one place, which nobody else can fill: client 0, whose task
    // is the older one, fills it. Client 1 waits for its next task until 16, and both begin the next buffer. Client 0 fills that at
    // 22, when both are ready again.
    let expected = ["0: 0-12 [0/0 0/0 1/0]", "0: 12-22 [0/0 0/0 1/1]"];
    assert_eq!(rounds(&collude(&[4, 6], &[0, 1], buffered(2, 3), 2)), expected);
    // The same with a third client that is offline: the server asks for it again and again.
    let mut world = seconds(&[4, 6, 5], buffered(3, 3), 2);
    let online = vec![(Time::from_secs(5000), Time::from_secs(5001))];
    world.availabilities.push(Availability::Trace { online, period: None });
    world.clients[2].availability = 1;
    world.colluders = [0, 1].into();
    world.server.retry = Span::from_secs(1);
    assert_eq!(rounds(&play(world)), expected);
}

#[test]
fn a_colluder_that_is_lost_is_not_waited_for() {
    // Client 1 drops out in the middle of its 1000 s of training; client 0, ready at 4, waits for it, and then for nobody.
    let mut world = seconds(&[4, 1003, 2003], buffered(3, 1), 1);
    world.dropouts.push(Dropout { during_training: Probability::ONE, ..Dropout::default() });
    world.clients[1].dropout = 1;
    world.colluders = [0, 1].into();
    let run = play(world);
    let lost = run.tasks.iter().find(|task| task.client == 1).unwrap();
    assert_eq!(lost.outcome, Outcome::Dropped(Stage::DuringTraining));
    assert!(lost.ended_at > Time::from_secs(4));
    assert_eq!((run.rounds[0].closed_at, run.rounds[0].counted_tasks[0].client), (lost.ended_at, 0));
}

#[test]
fn a_colluder_that_leaves_loses_what_it_keeps_back_or_is_waited_for() {
    // Client 0 is ready at 4 and offline from 6 to 10; client 1 is ready at 8.
    let play_with = |interruption| {
        let mut world = seconds(&[4, 8, 60], buffered(3, 2), 1);
        let online = vec![(Time::ZERO, Time::from_secs(6)), (Time::from_secs(10), Time::from_secs(90))];
        world.availabilities.push(Availability::Trace { online, period: None });
        world.clients[0].availability = 1;
        world.colluders = [0, 1].into();
        world.interruption = interruption;
        play(world)
    };
    assert_eq!(rounds(&play_with(Interruption::Resume)), ["0: 0-10 [0/0 1/0]"]);
    let abandoned = play_with(Interruption::Abandon);
    let lost = abandoned.tasks.iter().find(|task| task.client == 0).unwrap();
    assert_eq!((lost.outcome, lost.ended_at, lost.bytes_up), (Outcome::Left, Time::from_secs(6), 1_000_000));
    assert_eq!(arrivals(&abandoned, 1)[0], 8);
}

#[test]
fn colluders_without_a_buffer_are_refused() {
    let refused = |world: Federation, parts: &[&str]| {
        let error = Simulation::new(world).expect_err("it is refused").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let mut world = federation(3, synchronous(2, 0, None), 1);
    world.colluders = [1].into();
    refused(world, &["colluders", "no buffer"]);
    let mut world = federation(3, buffered(2, 2), 1);
    world.colluders = [3].into();
    refused(world, &["colluders", "below 3"]);
}

/// Checks that what colluders deliver at one instant is in one version, unless they were more than a buffer holds or nobody else
/// had a task. Returns the number of their updates that counted.
fn check_together(world: &Federation, run: &Run) -> usize {
    let Protocol::Buffered(policy) = world.server.protocol else { panic!("it has a buffer") };
    let is_colluder = |task: &TaskRecord| world.colluders.contains(&task.client);
    let mut by_instant: BTreeMap<Time, Vec<u32>> = BTreeMap::new();
    for task in run.tasks.iter().filter(|task| is_colluder(task)) {
        if let (Some(at), Some(version)) = (task.upload_done_at, task.counted_in_version) {
            by_instant.entry(at).or_default().push(version);
        }
    }
    for (at, versions) in &by_instant {
        let is_one = versions.iter().all(|version| version == &versions[0]);
        let has_others =
            run.tasks.iter().any(|task| !is_colluder(task) && task.dispatched_at < *at && task.ended_at > *at);
        assert!(is_one || versions.len() > policy.buffer as usize || !has_others, "{versions:?} at {at}");
    }
    by_instant.values().map(Vec::len).sum()
}

/// In random worlds with buffers, runs with colluders end, and their updates arrive together.
#[test]
fn random_worlds_with_colluders_end() {
    let mut played = 0;
    let mut delivered = 0;
    for seed in 0..3000 {
        let mut world = random_world(seed);
        if !matches!(world.server.protocol, Protocol::Buffered(_)) || world.clients.len() < 2 {
            continue;
        }
        world.colluders = (0..world.clients.len() as u32).filter(|client| (seed >> (client % 8)) & 1 == 1).collect();
        let Ok(mut simulation) = Simulation::new(world.clone()) else { continue };
        while let step @ (Step::Advanced | Step::Needs(_)) = simulation.step().unwrap() {
            assert!(simulation.events() < 200_000, "world {seed} hangs");
            if let Step::Needs(task) = step {
                supply(&mut simulation, task);
            }
        }
        let run = collect(&mut simulation);
        delivered += check_together(&world, &run);
        played += 1;
    }
    assert!(played > 100 && delivered > 100, "{played} worlds, {delivered} updates");
}
