//! Snapshots and forks: the same future, or one that differs only where it was changed.

use crate::world::*;
use fedreplay_sim::*;

/// Ten equal clients, so that many events tie, with jitter and dropouts for some.
fn tied_world() -> Federation {
    let mut world = federation(10, synchronous(6, 2, Some(30_000)), 3);
    world.devices.push(Device { slowdown: Quantiles::log_normal(1_000_000_000, 0.4, 64), ..device(2_000_000_000) });
    world.dropouts.push(Dropout { during_training: Probability::from_f64(0.3).unwrap(), ..Dropout::default() });
    for client in 6..10 {
        (world.clients[client].device, world.clients[client].dropout) = (1, 1);
    }
    world
}

#[test]
fn restore_at_every_event_keeps_the_digest() {
    let whole = play(tied_world());
    let mut simulation = Simulation::new(tied_world()).unwrap();
    let mut most_ties = 0;
    loop {
        let restored = Simulation::restore(&simulation.snapshot()).unwrap();
        assert_eq!(finish(restored), whole, "restored after {} events", simulation.events());
        if simulation.step().unwrap() != Step::Advanced {
            break;
        }
        let instant = simulation.now();
        most_ties = most_ties.max(whole.events.iter().filter(|event| event.at == instant).count());
    }
    assert!(most_ties >= 3, "ties are pending");
}

#[test]
fn empty_fork_keeps_the_digest() {
    let whole = play(tied_world());
    let mut simulation = Simulation::new(tied_world()).unwrap();
    loop {
        assert_eq!(finish(simulation.fork(Intervention::None).unwrap()), whole);
        if simulation.step().unwrap() != Step::Advanced {
            break;
        }
    }
}

/// Dropping a client after the first round: what others draw, for the task of each number, is what they drew before.
#[test]
fn intervention_leaves_other_streams_alone() {
    let mut world = tied_world();
    world.server.protocol = synchronous(10, 0, None);
    world.server.rounds = 5;
    let mut simulation = Simulation::new(world.clone()).unwrap();
    simulation.run_until(Time::from_secs(1)).unwrap();
    let changed = finish(simulation.fork(Intervention::Drop(0)).unwrap());
    let unchanged = play(world);
    assert_ne!(changed.order, unchanged.order);
    let key = |task: &TaskRecord| (task.client, task.client_task_number, task.outcome, task.training_ns);
    let of_others = |run: &Run| {
        let mut tasks: Vec<_> = run.tasks.iter().filter(|task| task.client != 0).map(key).collect();
        tasks.sort_unstable();
        tasks
    };
    assert_eq!(of_others(&changed), of_others(&unchanged));
    let lost: Vec<Outcome> = changed.tasks.iter().filter(|task| task.client == 0).map(|task| task.outcome).collect();
    assert_eq!(lost, [Outcome::Left]);
}

#[test]
fn reseeding_a_purpose_changes_its_draws_only() {
    let mut world = tied_world();
    world.server.protocol = synchronous(10, 0, None);
    let start = Simulation::new(world.clone()).unwrap();
    let fork = |purpose| finish(start.fork(Intervention::Reseed { purpose, seed: Seed(12) }).unwrap());
    let unchanged = play(world);
    let fates = |run: &Run| {
        run.tasks.iter().map(|task| (task.task, task.outcome)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let speeds = |run: &Run| {
        let counted = run.tasks.iter().filter(|task| task.outcome == Outcome::Counted);
        counted.map(|task| (task.task, task.training_ns)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let jitter = fork(Purpose::ComputeJitter);
    assert_eq!(fates(&jitter), fates(&unchanged));
    assert_ne!(speeds(&jitter), speeds(&unchanged));
    assert_ne!(fates(&fork(Purpose::Dropout)), fates(&unchanged));
    let other = fork(Purpose::Availability);
    assert_eq!((fates(&other), speeds(&other)), (fates(&unchanged), speeds(&unchanged)));
}

#[test]
fn a_changed_policy_takes_effect_at_the_next_decision() {
    let mut simulation = Simulation::new(tied_world()).unwrap();
    simulation.run_until(Time::from_secs(1)).unwrap();
    let more = synchronous(2, 0, Some(30_000));
    let forked = finish(simulation.fork(Intervention::SetProtocol(more)).unwrap());
    let dispatched: Vec<u32> = forked.rounds.iter().map(|round| round.dispatched).collect();
    assert_eq!(dispatched, [8, 2, 2]);
    let in_turn = finish(simulation.fork(Intervention::SetSelection(Selection::RoundRobin)).unwrap());
    let of_round = |round| in_turn.tasks.iter().filter(move |task| task.round == round).map(|task| task.client);
    assert!(of_round(1).all(|client| client < 8));
}

/// A server that aggregates in no time decides again at the very instant at which a round closes.
#[test]
fn a_change_between_rounds_is_in_force_for_the_next_round() {
    for aggregation in [Span(0), Span(5)] {
        let mut world = tied_world();
        world.server.aggregation = aggregation;
        let mut simulation = Simulation::new(world).unwrap();
        let mut closed = Vec::new();
        while closed.is_empty() {
            simulation.step().unwrap();
            closed.extend(simulation.drain().into_iter().filter(|record| matches!(record, Record::Round(_))));
        }
        simulation.change(Intervention::SetProtocol(synchronous(2, 0, Some(30_000)))).unwrap();
        simulation.change(Intervention::SetSelection(Selection::RoundRobin)).unwrap();
        let changed = finish(simulation);
        let dispatched: Vec<u32> = changed.rounds.iter().map(|round| round.dispatched).collect();
        assert_eq!(dispatched, [2, 2], "aggregation takes {aggregation:?}");
    }
}

#[test]
fn a_wider_link_speeds_up_what_is_under_way() {
    let mut world = federation(4, synchronous(4, 0, None), 1);
    let narrow = Capacity::constant(Rate::from_bits_per_s(4_000_000));
    world.network = Network::Server { egress: narrow.clone(), ingress: narrow };
    let mut simulation = Simulation::new(world).unwrap();
    simulation.run_until(Time::from_secs(2)).unwrap();
    let capacity = Capacity::constant(Rate::from_bits_per_s(1_000_000_000));
    let forked = finish(simulation.fork(Intervention::SetCapacity { link: 0, capacity }).unwrap());
    // 4 x 1 MB over 0.5 MB/s: a quarter is through when the fork begins, at the first event after 2 s if there was none.
    let unchanged = finish(simulation);
    assert_eq!(unchanged.tasks[0].download_done_at, Some(Time::from_secs(8)));
    assert!(forked.tasks[0].download_done_at < Some(Time::from_secs(3)));
}

#[test]
fn other_transfers_are_those_of_tasks_that_are_sent_later() {
    let mut simulation = Simulation::new(federation(1, synchronous(1, 0, None), 3)).unwrap();
    let mut ended = 0;
    while ended == 0 {
        simulation.step().unwrap();
        ended += simulation.drain().iter().filter(|record| matches!(record, Record::Round(_))).count();
    }
    let traffic = Traffic { download_bytes: 2_000_000, upload_bytes: 500_000 };
    simulation.change(Intervention::SetTraffic { traffic, every_second_round: None }).unwrap();
    let changed = finish(simulation);
    let moved: Vec<(u64, u64)> = changed.tasks.iter().map(|task| (task.bytes_down, task.bytes_up)).collect();
    assert_eq!(moved, [(2_000_000, 500_000); 2]);
    // A task that is under way keeps the sizes that it was sent with.
    let mut simulation = Simulation::new(federation(1, synchronous(1, 0, None), 2)).unwrap();
    simulation.run_until(Time::from_secs(1)).unwrap();
    simulation.change(Intervention::SetTraffic { traffic, every_second_round: None }).unwrap();
    let moved: Vec<(u64, u64)> = finish(simulation).tasks.iter().map(|task| (task.bytes_down, task.bytes_up)).collect();
    assert_eq!(moved, [(1_000_000, 1_000_000), (2_000_000, 500_000)]);
}

#[test]
fn interventions_that_refer_to_nothing_are_refused() {
    let simulation = Simulation::new(tied_world()).unwrap();
    let refused = |intervention| simulation.fork(intervention).map(|_| ()).unwrap_err().to_string();
    assert!(refused(Intervention::Drop(10)).contains("client 10 of 10"));
    let capacity = Capacity::constant(Rate::MAX);
    assert!(refused(Intervention::SetCapacity { link: 0, capacity }).contains("link 0 of 0"));
    let traffic = Traffic { download_bytes: 1, upload_bytes: 0 };
    let nothing = Intervention::SetTraffic { traffic, every_second_round: None };
    assert!(refused(nothing).contains("upload_bytes"));
    assert!(refused(Intervention::Add(Client { device: 9, ..Client::default() })).contains("device is 9"));
    let asynchronous = Protocol::Asynchronous(Asynchronous { concurrency: 1, staleness_max: None, losses_max: 1 });
    assert!(refused(Intervention::SetProtocol(asynchronous)).contains("another kind"));
}

#[test]
fn damaged_snapshots_are_refused() {
    let bytes = Simulation::new(tied_world()).unwrap().snapshot();
    let refuse = |bytes: &[u8]| Simulation::restore(bytes).map(|_| ()).unwrap_err();
    assert_eq!(refuse(b"something else"), SnapshotError::NotASnapshot);
    assert_eq!(refuse(&bytes[..bytes.len() - 1]), SnapshotError::Damaged);
    let mut altered = bytes.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(refuse(&altered), SnapshotError::Damaged);
    let mut newer = bytes.clone();
    newer[8] += 1;
    assert!(matches!(refuse(&newer), SnapshotError::OtherFormat { found: 7, .. }));
    assert_eq!(Simulation::federation_of_snapshot(&bytes).unwrap(), tied_world().hash());
}
