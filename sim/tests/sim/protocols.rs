//! Protocols played whole, against timelines worked out by hand. A task of client i takes `i + 3` seconds at 1, 1/2, ...
//! of the base speed as stated in each test.

use crate::world::*;
use fedreplay_sim::*;

/// Clients whose tasks take these whole seconds each: 1 s of download, training, and 2 s of upload.
pub fn seconds(tasks: &[u64], protocol: Protocol, rounds: u32) -> Federation {
    let mut world = federation(tasks.len(), protocol, rounds);
    world.devices =
        tasks.iter().map(|seconds| Device { flops_per_s: 2_000_000_000 / (seconds - 3), ..device(1) }).collect();
    (0..tasks.len()).for_each(|i| world.clients[i].device = i as u32);
    world
}

/// Rounds as `aggregator: opened-closed [clients counted, with their staleness]`.
pub fn rounds(run: &Run) -> Vec<String> {
    let s = |time: Time| time.0 / 1_000_000_000;
    let text = |round: &RoundRecord| {
        let counted: Vec<String> =
            round.counted_tasks.iter().map(|task| format!("{}/{}", task.client, task.staleness)).collect();
        format!("{}: {}-{} [{}]", round.aggregator, s(round.opened_at), s(round.closed_at), counted.join(" "))
    };
    run.rounds.iter().map(text).collect()
}

#[test]
fn transfers_of_every_second_round() {
    // Usually 1 s of download (1 MB at 1 MB/s), 1 s of training and 2 s of upload (1 MB at 0.5 MB/s). In every second round 3 MB
    // down and 0.5 MB up: 3 + 1 + 1 s.
    let mut world = seconds(&[4], synchronous(1, 0, None), 4);
    world.works[0].every_second_round = Some(Traffic { download_bytes: 3_000_000, upload_bytes: 500_000 });
    world.works[0].first_download_bytes = 2_000_000;
    let run = play(world);
    // The base model takes 2 s with the first task.
    assert_eq!(rounds(&run), ["0: 0-6 [0/0]", "0: 6-11 [0/0]", "0: 11-15 [0/0]", "0: 15-20 [0/0]"]);
    let moved: Vec<(u64, u64)> = run.tasks.iter().map(|task| (task.bytes_down, task.bytes_up)).collect();
    let (usual, second) = ((1_000_000, 1_000_000), (3_000_000, 500_000));
    assert_eq!(moved, [(3_000_000, 1_000_000), second, usual, second]);
    let mut empty = seconds(&[4], synchronous(1, 0, None), 4);
    empty.works[0].every_second_round = Some(Traffic { download_bytes: 0, upload_bytes: 1 });
    assert!(Simulation::new(empty).is_err_and(|error| error.to_string().contains("download_bytes")));
}

#[test]
fn rounds_wait_for_the_training_of_the_server() {
    // Updates arrive after 5 s; the server trains for 8 s from the opening of each round.
    let mut world = seconds(&[4, 5], synchronous(2, 0, None), 3);
    world.server.training = Span::from_secs(8);
    assert_eq!(rounds(&play(world)), ["0: 0-5 [0/0 1/0]", "0: 8-13 [0/0 1/0]", "0: 16-21 [0/0 1/0]"]);
    let policy = Buffered { concurrency: 2, buffer: 2, staleness_max: None, losses_max: 9 };
    let mut buffered = seconds(&[4, 5], Protocol::Buffered(policy), 3);
    buffered.server.training = Span::from_secs(8);
    assert!(Simulation::new(buffered).is_err_and(|error| error.to_string().contains("training")));
    let mut endless = seconds(&[4, 5], synchronous(2, 0, None), 3);
    endless.server.training = Span(u64::MAX);
    assert!(Simulation::new(endless).is_err_and(|error| error.to_string().contains("training")));
}

#[test]
fn semi_synchronous_windows() {
    let policy = SemiSynchronous { window: Span::from_secs(6), concurrency: 2, minimum: 1, staleness_max: 3 };
    // Tasks of 4 and 8 s; windows of 6 s. Client 0 counts in each; client 1 in the second, from version 0: staleness 1.
    let run = play(seconds(&[4, 8], Protocol::SemiSynchronous(policy), 3));
    assert_eq!(rounds(&run), ["0: 0-6 [0/0]", "0: 6-12 [0/0 1/1]", "0: 12-18 [0/0]"]);
    assert_eq!(run.tasks.last().unwrap().outcome, Outcome::Cancelled, "client 1 is under way when the run ends");
}

#[test]
fn buffered_versions() {
    let policy = Buffered { concurrency: 2, buffer: 2, staleness_max: None, losses_max: 9 };
    // Client 0 arrives at 4, 8, 12, ... and client 1 at 9, 18: buffers {0, 0} at 8, {1, 0} at 12, {0, 0} at 20.
    // The third of client 0 started at 8, from version 1; client 1 from version 0.
    let run = play(seconds(&[4, 9], Protocol::Buffered(policy), 2));
    assert_eq!(rounds(&run), ["0: 0-8 [0/0 0/0]", "0: 8-12 [0/0 1/1]"]);
}

#[test]
fn asynchronous_versions() {
    let policy = Asynchronous { concurrency: 2, staleness_max: Some(1), losses_max: 9 };
    // Client 0 at 4, 8, 12; client 1 at 11, from version 0 when two were made: too stale.
    let run = play(seconds(&[4, 11], Protocol::Asynchronous(policy), 3));
    assert_eq!(rounds(&run), ["0: 0-4 [0/0]", "0: 4-8 [0/0]", "0: 8-12 [0/0]"]);
    let stale: Vec<(u32, u32)> =
        run.tasks.iter().filter(|task| task.outcome == Outcome::Stale).map(|t| (t.client, t.staleness)).collect();
    assert_eq!(stale, [(1, 2)]);
}

#[test]
fn tiers_by_speed() {
    let policy = Tiered { tiers: 2, cohort: 2, deadline: None, minimum: 2 };
    // Tier 1 has clients 1 and 3 (4 and 5 s), tier 2 clients 0 and 2 (11 and 12 s).
    let run = play(seconds(&[12, 4, 11, 5], Protocol::Tiered(policy), 3));
    assert_eq!(rounds(&run), ["1: 0-5 [1/0 3/0]", "1: 5-10 [1/0 3/0]", "2: 0-12 [0/2 2/2]"]);
    let bases: Vec<(Option<u32>, u32)> = run.rounds.iter().map(|round| (round.version, round.base_version)).collect();
    assert_eq!(bases, [(Some(1), 0), (Some(2), 1), (Some(3), 2)]);
}

#[test]
fn edges_and_their_server() {
    let capacity = Capacity::constant(Rate::from_bits_per_s(1_000_000_000));
    let (egress, ingress) = (capacity.clone(), capacity);
    let up = Rate::from_bits_per_s(8_000_000);
    let edge = EdgeLink { down: up, up, latency: Span::ZERO, transport: Transport::default(), egress, ingress };
    let within = Synchronous { cohort: 2, over_selection: 0, deadline: None, minimum: 1, stragglers: Stragglers::Stop };
    let policy = Hierarchical {
        edges: vec![edge.clone(), edge],
        edge_rounds: 2,
        within,
        download_bytes: 1_000_000,
        upload_bytes: 2_000_000,
    };
    let mut world = seconds(&[4, 5, 7], Protocol::Hierarchical(policy), 1);
    world.clients[2].region = 1;
    let run = play(world);
    // Down 1 s; edge 1 plays 5 s twice, edge 2 7 s twice; up 2 s.
    let expected = ["1: 1-6 [0/0 1/0]", "2: 1-8 [2/0]", "1: 6-11 [0/0 1/0]", "2: 8-15 [2/0]", "0: 0-17 []"];
    assert_eq!(rounds(&run), expected);
    let server = run.rounds.last().unwrap();
    assert_eq!((server.merged_versions.as_slice(), server.version), ([3, 4].as_slice(), Some(5)));
    assert_eq!((server.bytes_down, server.bytes_up), (2_000_000, 4_000_000));
    let based: Vec<u32> =
        run.rounds.iter().flat_map(|round| &round.counted_tasks).map(|t| t.based_on_version).collect();
    assert_eq!(based, [0, 0, 0, 1, 1, 2]);
}

/// Edges share the server's link: with 8 Mbit/s in all, two uploads of 2 MB take 4 s.
#[test]
fn edges_share_the_servers_link() {
    let wide = Capacity::constant(Rate::from_bits_per_s(1_000_000_000));
    let rate = Rate::from_bits_per_s(8_000_000);
    let edge = EdgeLink {
        down: rate,
        up: rate,
        latency: Span::ZERO,
        transport: Transport::default(),
        egress: wide.clone(),
        ingress: wide.clone(),
    };
    let within = Synchronous { cohort: 1, over_selection: 0, deadline: None, minimum: 1, stragglers: Stragglers::Stop };
    let edges = vec![edge.clone(), edge];
    let policy = Hierarchical { edges, edge_rounds: 1, within, download_bytes: 1_000_000, upload_bytes: 2_000_000 };
    let mut world = seconds(&[4, 4], Protocol::Hierarchical(policy), 1);
    world.clients[1].region = 1;
    world.network = Network::Server { egress: wide, ingress: Capacity::constant(rate) };
    assert_eq!(rounds(&play(world)).last().unwrap(), "0: 0-9 []");
}

/// Equal speeds, a buffer as large as the cohort: both protocols make the same versions of the same tasks at the same
/// times, bit for bit.
#[test]
fn a_buffer_of_a_cohort_equals_synchronous_rounds() {
    let make = |protocol| {
        let mut world = federation(20, protocol, 6);
        world.links[0].latency = Span(12_345);
        let wide = Capacity::constant(Rate::from_bits_per_s(3_000_000));
        world.network = Network::Server { egress: wide.clone(), ingress: wide };
        play(world)
    };
    let synchronous = make(synchronous(5, 0, None));
    let buffered = make(Protocol::Buffered(Buffered { concurrency: 5, buffer: 5, staleness_max: None, losses_max: 1 }));
    assert_eq!(buffered.rounds, synchronous.rounds);
    assert_eq!(buffered.tasks, synchronous.tasks);
    assert_eq!(buffered.result, synchronous.result);
}

#[test]
fn a_federation_whose_every_client_drops_out_ends() {
    let policy = Buffered { concurrency: 3, buffer: 2, staleness_max: None, losses_max: 10 };
    let mut world = federation(5, Protocol::Buffered(policy), 4);
    world.dropouts[0].after_training = Probability::ONE;
    let run = play(world);
    assert!(run.rounds.iter().all(|round| round.status == RoundStatus::Failed(Failure::TooFewSurvived)));
    assert_eq!(run.rounds.len(), 4);
    assert!(run.tasks.iter().all(|task| task.counted_in_version.is_none()));
}

#[test]
fn poisson_rounds_wait_for_all_whom_they_asked() {
    let mut world = seconds(&[4, 5, 6, 7, 8, 9], synchronous(1, 0, None), 5);
    world.server.selection = Selection::Poisson { rate: Probability::from_f64(0.5).unwrap() };
    let run = play(world);
    assert!(run.rounds.iter().all(|round| round.counted == round.dispatched && round.cancelled == 0));
    assert!(run.rounds.iter().any(|round| round.counted > 1));
}
