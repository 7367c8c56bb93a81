//! Weights of transfers in whole runs, against timelines worked out by hand.

use crate::world::*;
use fedreplay_sim::*;

const MS: u64 = 1_000_000;

/// Two clients whose links of 1 MB/s share 1 MB/s of the server in each direction; 1 MB each way.
fn pair(sharing: Sharing) -> Federation {
    let mut world = federation(2, synchronous(2, 0, None), 1);
    let capacity = Capacity::constant(Rate::from_bits_per_s(8_000_000));
    world.network = Network::Server { egress: capacity.clone(), ingress: capacity };
    world.links = vec![link(8_000_000, 8_000_000); 2];
    world.clients[1].link = 1;
    world.sharing = sharing;
    world
}

fn by_round_trip(queue_bytes: u64) -> Sharing {
    Sharing { weights: Weights::ByRoundTrip { least: Span::from_millis(1), queue_bytes }, noise: None }
}

fn downloads(world: Federation) -> [u64; 2] {
    let run = play(world);
    [0, 1].map(|client| {
        let task = run.tasks.iter().find(|task| task.client == client).unwrap();
        task.download_done_at.unwrap().0
    })
}

/// Requires two times to be equal but for a microsecond: rates are rounded to microbytes per second, and what is left of an interrupted
/// transfer to bytes.
fn assert_near(found: [u64; 2], expected: [f64; 2]) {
    for (found, expected) in found.into_iter().zip(expected) {
        assert!((found as f64 - expected * 1e9).abs() <= 1_000.0, "{found} ns, expected {expected} s");
    }
}

/// Round trips of 20 and 80 ms share 4 to 1. The near client is alone from 10 to 40 ms, for 30 kB; the rest of 970 kB at 0.8 MB/s takes
/// 1.2125 s. The far one has 242.5 kB by then, and 757.5 kB left at 1 MB/s.
#[test]
fn a_near_client_has_more_of_a_link_than_a_far_one() {
    let mut world = pair(by_round_trip(0));
    world.links[0].latency = Span::from_millis(10);
    world.links[1].latency = Span::from_millis(40);
    assert_eq!(downloads(world.clone()), [1_252_500_000, 2_010_000_000]);
    // Equal shares: 970 kB at 0.5 MB/s take 1.94 s, and leave 30 kB of the far one.
    world.sharing = Sharing::default();
    assert_eq!(downloads(world), [1_980_000_000, 2_010_000_000]);
}

/// Both ways of a route count: down 10 ms, and up 10 ms for the first region and 70 ms for the second, so that round trips are 20 and 80 ms
/// again. Both flows begin at 10 ms.
#[test]
fn the_way_back_is_a_part_of_the_round_trip() {
    let mut world = pair(by_round_trip(0));
    let link = |from, to, ms, bits| TopologyLink {
        from,
        to,
        capacity: Capacity::constant(Rate::from_bits_per_s(bits)),
        latency: Span::from_millis(ms),
    };
    const WIDE: u64 = 1_000_000_000;
    world.network = Network::Topology(Topology {
        nodes: ["server", "core", "near", "far"].map(String::from).to_vec(),
        links: vec![
            link(0, 1, 0, 8_000_000),
            link(1, 0, 0, WIDE),
            link(1, 2, 10, WIDE),
            link(2, 1, 10, WIDE),
            link(1, 3, 10, WIDE),
            link(3, 1, 70, WIDE),
        ],
        server: 0,
        regions: vec![2, 3],
    });
    world.clients[1].region = 1;
    // 1 MB at 0.8 MB/s; then 0.75 MB at 1 MB/s.
    assert_eq!(downloads(world), [1_260 * MS, 2_010 * MS]);
}

/// Queues of 20 kB take 20 ms at each of the server's link and a link of 1 MB/s, and 80 ms at one of 0.25 MB/s: 40 and 100 ms. Caps: the
/// second has its 0.25 MB/s, less than its share of 2 / 7, until the first ends after 1 / 0.75 s.
#[test]
fn queues_and_caps_go_together() {
    let mut world = pair(by_round_trip(20_000));
    world.links[1] = link(2_000_000, 2_000_000);
    assert_near(downloads(world.clone()), [1.0 / 0.75, 4.0]);
    // A link of 0.4 MB/s has a queue of 50 ms: 40 to 70 ms share 7 to 4, and 4 / 11 of 1 MB/s is below its cap. The first has
    // 7 / 11 MB/s; the second then has 1 - 4 / 7 MB left, at its cap.
    world.links[1] = link(3_200_000, 3_200_000);
    assert_near(downloads(world), [11.0 / 7.0, 11.0 / 7.0 + 3.0 / 7.0 / 0.4]);
}

/// The factor of a client's transfer, from its own stream: draw 2n of download n, and 2n + 1 of upload n.
fn factor(table: &Quantiles, client: u64, draw: u64) -> f64 {
    table.at(Stream::new(Seed(7), Purpose::Sharing, client).at(draw).next_u64()) as f64
}

fn noise() -> (Quantiles, Sharing) {
    let table = Quantiles::log_normal(1_000_000_000, 0.3, 1_024).unwrap();
    let sharing = Sharing { weights: Weights::Equal, noise: Some(table.clone()) };
    (table, sharing)
}

/// Seconds of the faster and the slower of two transfers of 1 MB that begin together, with these weights, by client.
fn seconds(weights: [f64; 2]) -> [f64; 2] {
    let first = (weights[0] + weights[1]) / weights[0].max(weights[1]);
    weights.map(|weight| if weight == weights[0].max(weights[1]) { first } else { 2.0 })
}

#[test]
fn noise_is_drawn_for_each_transfer() {
    let (table, sharing) = noise();
    let mut world = pair(sharing);
    // Uploads that begin together are those of clients that train until the same instant: the faster device has the later download.
    let down = [0, 1].map(|client| factor(&table, client, 0));
    let expected = seconds(down);
    assert!((down[0] / down[1] - 1.0).abs() > 0.05, "the draws differ enough to be seen");
    assert_near(downloads(world.clone()), expected);
    // Without a link of the server's to share, noise changes nothing.
    world.network = Network::Unlimited;
    assert_eq!(downloads(world.clone()), [1_000 * MS; 2]);
    // Downloads of 1 s over links of one's own; trainings end together, and uploads share the server's link.
    world.network = Network::Server {
        egress: Capacity::constant(Rate::from_bits_per_s(80_000_000)),
        ingress: Capacity::constant(Rate::from_bits_per_s(8_000_000)),
    };
    let run = play(world);
    let expected = seconds([0, 1].map(|client| factor(&table, client, 1)));
    for task in &run.tasks {
        let uploaded = task.upload_done_at.unwrap().0 - task.training_done_at.unwrap().0;
        assert!((uploaded as f64 - expected[task.client as usize] * 1e9).abs() <= 1_000.0, "{uploaded}: {expected:?}");
    }
}

/// The slower client is away from 0.5 to 0.7 s: the other one has the link alone, and they share it as before when it is back.
#[test]
fn a_resumed_transfer_has_the_weight_that_it_had() {
    let (table, sharing) = noise();
    let mut world = pair(sharing);
    let weights = [0, 1].map(|client| factor(&table, client, 0));
    let slow = usize::from(weights[1] < weights[0]);
    world.interruption = Interruption::Resume;
    let online = [(0, 500), (700, 100_000)].map(|(from, until)| (Time(from * MS), Time(until * MS))).to_vec();
    world.availabilities.push(Availability::Trace { online, period: None });
    world.clients[slow].availability = 1;
    let share = weights[1 - slow] / (weights[0] + weights[1]);
    // The faster one has moved 0.5 s x its share and 0.2 MB; its rest goes on at its share from 0.7 s.
    let faster = 0.7 + (1.0 - 0.2 - 0.5 * share) / share;
    let mut expected = [faster; 2];
    expected[slow] = 2.0;
    assert_near(downloads(world), expected);
}

#[test]
fn an_impossible_sharing_is_refused() {
    let never = Sharing { weights: Weights::ByRoundTrip { least: Span::ZERO, queue_bytes: 0 }, noise: None };
    let nothing = Sharing { weights: Weights::Equal, noise: Quantiles::new(vec![0, 1]) };
    for (sharing, field) in [(never, "least round trip"), (nothing, "noise of sharing")] {
        let error = Simulation::new(pair(sharing)).err().unwrap().to_string();
        assert!(error.contains(field), "{error}");
    }
}

/// Times of downloads of eight clients that share a link, as parts of the time with equal shares, ascending.
fn parts_of_eight(spread: f64) -> Vec<f64> {
    let mut world = federation(8, synchronous(8, 0, None), 2_000);
    world.network = Network::Server {
        egress: Capacity::constant(Rate::from_bits_per_s(8_000_000)),
        ingress: Capacity::constant(Rate::from_bits_per_s(1_000_000_000)),
    };
    world.sharing.noise = Quantiles::log_normal(1_000_000_000, spread, 1_024);
    world.detail = Detail::Tasks;
    let part = |task: &TaskRecord| (task.download_done_at.unwrap().0 - task.dispatched_at.0) as f64 / 8e9;
    let mut parts: Vec<f64> = play(world).tasks.iter().map(part).collect();
    parts.sort_by(f64::total_cmp);
    parts
}

/// The table of docs/time.md. Its numbers are those of 160,000 downloads by progressive filling and Gaussian draws in Python.
#[test]
fn spreads_have_the_quantiles_of_the_documentation() {
    for (spread, quantiles, near) in [
        (0.1, [0.861, 0.931, 0.968], 0.642),
        (0.2, [0.750, 0.872, 0.941], 0.452),
        (0.3, [0.659, 0.820, 0.915], 0.367),
        (0.5, [0.522, 0.737, 0.872], 0.285),
    ] {
        let parts = parts_of_eight(spread);
        for (p, expected) in [0.05, 0.25, 0.5].into_iter().zip(quantiles) {
            let found = parts[(p * parts.len() as f64) as usize];
            assert!((found - expected).abs() < 0.01, "spread {spread}, quantile {p}: {found}, not {expected}");
        }
        let found = parts.iter().filter(|part| **part >= 0.95).count() as f64 / parts.len() as f64;
        assert!((found - near).abs() < 0.015, "spread {spread}: {found} within 5 %, not {near}");
    }
}
