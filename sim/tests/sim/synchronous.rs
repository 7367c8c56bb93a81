//! Synchronous rounds against hand arithmetic.

use crate::world::*;
use fedreplay_sim::*;

const S: u64 = 1_000_000_000;

#[test]
fn one_client_without_contention_takes_what_arithmetic_says() {
    let mut federation = federation(1, synchronous(1, 0, None), 2);
    federation.links[0].latency = Span(3);
    federation.devices[0].flops_per_s = 300_000_000;
    federation.server.aggregation = Span(5);
    let run = play(federation);
    // 2 GFLOP at 0.3 GFLOP/s: 6.666666667 s, rounded up.
    let training = 6_666_666_667;
    let down = 3 + S;
    let up = down + training + 3 + 2 * S;
    let task = run.tasks[1];
    assert_eq!(run.rounds[0].closed_at, Time(up));
    assert_eq!(run.rounds[1].opened_at, Time(up + 5));
    assert_eq!(task.download_done_at, Some(Time(up + 5 + down)));
    assert_eq!(task.training_done_at, Some(Time(up + 5 + down + training)));
    assert_eq!(task.upload_done_at, Some(Time(up + 5 + up)));
    assert_eq!((task.based_on_version, task.counted_in_version, task.client_task_number), (1, Some(2), 1));
    assert_eq!((task.bytes_down, task.bytes_up, task.compute_flops), (1_000_000, 1_000_000, 2 * S));
    // 1 W for 3 s and 6 ns, 10 W for 6.666666667 s.
    assert_eq!((task.energy_mj, task.training_ns), (69_666, training));
}

#[test]
fn uploads_share_the_server_link() {
    let mut federation = federation(2, synchronous(2, 0, None), 1);
    let wide = Capacity::constant(Rate::from_bits_per_s(1_000_000_000));
    // Two uploads at 4 Mbit/s each over 4 Mbit/s: 4 s instead of 2.
    federation.network =
        Network::Server { egress: wide, ingress: Capacity::constant(Rate::from_bits_per_s(4_000_000)) };
    let run = play(federation);
    assert_eq!(run.rounds[0].closed_at, Time(7 * S));
    let expected = [
        "0:round_opened",
        "0:dispatched:0",
        "0:download_started:0",
        "0:dispatched:1",
        "0:download_started:1",
        "1000:downloaded:0",
        "1000:training_started:0",
        "1000:downloaded:1",
        "1000:training_started:1",
        "3000:trained:0",
        "3000:upload_started:0",
        "3000:trained:1",
        "3000:upload_started:1",
        "7000:uploaded:0",
        "7000:uploaded:1",
        "7000:round_closed",
    ];
    assert_eq!(timeline(&run), expected);
}

/// One client needs exactly 5 s, the other 5 s and a nanosecond.
#[test]
fn upload_at_the_deadline_counts() {
    let mut federation = federation(2, synchronous(2, 0, Some(5_000)), 1);
    federation.links.push(Link { latency: Span(1), ..federation.links[0].clone() });
    federation.clients[1].link = 1;
    federation.links[1].up = Rate::from_bits_per_s(4_000_000);
    let run = play(federation);
    let outcomes: Vec<_> = run.tasks.iter().map(|task| (task.client, task.outcome)).collect();
    assert_eq!(outcomes, [(1, Outcome::Late), (0, Outcome::Counted)]);
    let round = &run.rounds[0];
    assert_eq!((round.status, round.closed_at), (RoundStatus::Closed, Time(5 * S)));
    assert_eq!((round.dispatched, round.counted, round.late), (2, 1, 1));
}

#[test]
fn over_selection_counts_the_first_and_cancels_the_rest() {
    let mut federation = federation(3, synchronous(2, 1, None), 1);
    federation.devices.extend([device(500_000_000), device(250_000_000)]);
    (federation.clients[0].device, federation.clients[1].device) = (2, 1);
    let run = play(federation);
    // Client 2 uploads at 5 s, client 1 at 1 + 4 + 2 = 7 s; client 0 would train until 9 s.
    assert_eq!(run.rounds[0].closed_at, Time(7 * S));
    let counted: Vec<u32> = run.rounds[0].counted_tasks.iter().map(|counted| counted.client).collect();
    assert_eq!(counted, [1, 2]);
    let cancelled = run.tasks.iter().find(|task| task.client == 0).unwrap();
    assert_eq!((cancelled.outcome, cancelled.ended_at), (Outcome::Cancelled, Time(7 * S)));
    // 6 of 8 seconds of training were done.
    assert_eq!((cancelled.compute_flops, cancelled.bytes_up), (1_500_000_000, 0));
}

#[test]
fn dropouts_end_where_they_are_told_to() {
    let p = |value| Probability::from_f64(value).unwrap();
    let cases = [
        (Dropout { before_training: p(1.0), ..Dropout::default() }, Stage::BeforeTraining, 1, 1),
        (Dropout { during_training: p(1.0), ..Dropout::default() }, Stage::DuringTraining, 1, 3),
        (Dropout { after_training: p(1.0), ..Dropout::default() }, Stage::AfterTraining, 3, 3),
    ];
    for (dropout, stage, earliest, latest) in cases {
        let mut federation = federation(1, synchronous(1, 0, None), 1);
        federation.dropouts[0] = dropout;
        let run = play(federation);
        assert_eq!(run.tasks[0].outcome, Outcome::Dropped(stage));
        assert!((Time(earliest * S)..=Time(latest * S)).contains(&run.tasks[0].ended_at), "{:?}", run.tasks[0]);
        assert_eq!(run.rounds[0].status, RoundStatus::Failed(Failure::TooFewSurvived));
    }
}

#[test]
fn stragglers_may_finish_and_are_then_late() {
    let mut federation = federation(2, synchronous(1, 1, None), 2);
    federation.devices.push(device(500_000_000));
    federation.clients[1].device = 1;
    let Protocol::Synchronous(policy) = &mut federation.server.protocol else { unreachable!() };
    policy.stragglers = Stragglers::Finish;
    let run = play(federation);
    // Round 0: client 0 at 5 s. Round 1 from 5 s: only client 0 is free; client 1 arrives at 7 s, late.
    let outcomes: Vec<_> = run.tasks.iter().map(|task| (task.client, task.round, task.outcome)).collect();
    assert_eq!(outcomes, [(0, 0, Outcome::Counted), (1, 0, Outcome::Late), (0, 1, Outcome::Counted)]);
    assert_eq!(run.rounds.iter().map(|round| (round.late, round.in_flight)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    assert_eq!(run.tasks[1].ended_at, Time(7 * S));
}

#[test]
fn a_device_that_is_too_small_is_not_asked_or_fails() {
    for (policy, failure) in
        [(MemoryPolicy::Ineligible, Failure::NoCandidates), (MemoryPolicy::Fail, Failure::TooFewSurvived)]
    {
        let mut federation = federation(1, synchronous(1, 0, None), 2);
        federation.devices[0].memory_bytes = 100;
        federation.server.memory = policy;
        let run = play(federation);
        assert!(run.rounds.iter().all(|round| round.status == RoundStatus::Failed(failure)));
        assert_eq!(run.rounds.len(), 2);
        let failed = run.tasks.iter().filter(|task| task.outcome == Outcome::OutOfMemory).count();
        assert_eq!(failed, if policy == MemoryPolicy::Fail { 2 } else { 0 });
    }
}

#[test]
fn same_seed_same_digest() {
    let make = |seed| {
        let mut federation = federation(20, synchronous(5, 2, Some(9_000)), 10);
        federation.seed = Seed(seed);
        federation.devices[0].slowdown = Quantiles::log_normal(1_000_000_000, 0.5, 256);
        federation.dropouts[0].during_training = Probability::from_f64(0.2).unwrap();
        play(federation)
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1).order, make(2).order);
    assert_ne!(make(1).result, make(2).result);
}

#[test]
fn absurd_costs_are_refused_with_client_and_field() {
    let refuse = |change: fn(&mut Federation), text: &str| {
        let mut federation = federation(3, synchronous(1, 0, Some(60_000)), 1);
        federation.devices.push(device(1));
        federation.clients[2].device = 1;
        federation.devices[1].flops_per_s = 1_000_000_000;
        change(&mut federation);
        let error = Simulation::new(federation).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(text), "{error:?} should contain {text:?}");
    };
    refuse(|f| f.devices[1].flops_per_s = 0, "client 2: flops_per_s is 0; allowed: at least 1");
    refuse(|f| f.devices[1].flops_per_s = 1, "client 2: training time is");
    refuse(|f| f.links[0].up = Rate::ZERO, "client 0: up is 0 bit/s");
    refuse(|f| f.works[0].upload_bytes = 0, "client 0: upload_bytes is 0");
    refuse(|f| f.clients[1].work = 9, "client 1: work is 9; allowed: an index below 1");
    refuse(|f| f.clients[1].samples = 0, "client 1: samples is 0");
    refuse(|f| f.clients.clear(), "clients is 0");
    refuse(|f| f.server.rounds = 0, "the server: rounds is 0");
    refuse(|f| f.server.retry = Span::ZERO, "retry is 0s");
    refuse(|f| f.links[0].down = Rate::from_microbytes_per_s(1), "client 0: download time is");
    refuse(|f| f.devices[0].memory_bytes = 0, "client 0: memory_bytes is 0");
    refuse(
        |f| (f.dropouts[0].during_training, f.dropouts[0].after_training) = (Probability::ONE, Probability::ONE),
        "client 0: dropout is 2000000000 in 10^9",
    );
    let outage = || Capacity::constant(Rate::ZERO);
    let refused = |text: &str, change: &dyn Fn(&mut Federation)| {
        let mut federation = federation(3, synchronous(1, 0, None), 1);
        change(&mut federation);
        let error = Simulation::new(federation).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(text), "{error:?} should contain {text:?}");
    };
    refused("the network: egress is", &|f| {
        f.network = Network::Server { egress: outage(), ingress: outage() };
    });
    refused("allowed: 1 to 3, the number of clients", &|f| {
        f.server.protocol = Protocol::Tiered(Tiered { tiers: 4, cohort: 1, deadline: None, minimum: 1 });
    });
    refused("selection is Poisson", &|f| {
        f.server.selection = Selection::Poisson { rate: Probability::ONE };
        f.server.protocol = Protocol::Asynchronous(Asynchronous { concurrency: 1, staleness_max: None, losses_max: 1 });
    });
    refused("losses_max is 0", &|f| {
        f.server.protocol = Protocol::Asynchronous(Asynchronous { concurrency: 1, staleness_max: None, losses_max: 0 });
    });
    refused("client 2: region is 1; allowed: a region below 1", &|f| {
        let link = |from, to| TopologyLink { from, to, capacity: Capacity::constant(Rate::MAX), latency: Span(1) };
        let links = vec![link(0, 1), link(1, 0)];
        let nodes = vec!["server".into(), "region".into()];
        f.network = Network::Topology(Topology { nodes, links, server: 0, regions: vec![1] });
        f.clients[2].region = 1;
    });
    refused("region_cuts is", &|f| {
        f.region_cuts.push(RegionCut { region: 0, from: Time(5), until: Time(5) });
    });
    refuse(|f| f.server.protocol = synchronous(1, 0, Some(4_999)), "deadline is 4.999s; allowed: at least 5s");
}

#[test]
fn a_snapshot_goes_on_as_if_nothing_had_happened() {
    let mut federation = federation(20, synchronous(5, 2, Some(9_000)), 4);
    federation.dropouts[0].during_training = Probability::from_f64(0.2).unwrap();
    let whole = play(federation.clone());
    let mut simulation = Simulation::new(federation).unwrap();
    while simulation.step().unwrap() == Step::Advanced {
        let bytes = postcard::to_stdvec(&simulation).unwrap();
        simulation = postcard::from_bytes(&bytes).unwrap();
    }
    assert_eq!(finish(simulation), whole);
}
