//! Random small federations with everything in them, each named by its seed.

use crate::world::{device, federation, link};
use fedreplay_sim::*;

/// A source of choices for one world.
pub struct Dice(Stream);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(Stream::new(Seed(seed), Purpose::Population, 0))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn probability(&mut self, most_percent: u64) -> Probability {
        Probability::from_ppb((self.below(most_percent + 1) * 10_000_000) as u32).unwrap()
    }

    fn seconds(&mut self, low: u64, high: u64) -> Span {
        Span::from_secs(self.between(low, high))
    }
}

/// World number `seed`.
pub fn random_world(seed: u64) -> Federation {
    let dice = &mut Dice::new(seed);
    let clients = dice.between(1, 14) as usize;
    let regions = dice.between(1, 3) as u32;
    let protocol = protocol(dice, clients as u32, regions);
    let rounds = dice.between(1, 5) as u32;
    let mut world = federation(clients, protocol, rounds);
    world.seed = Seed(seed);
    world.devices = (0..3).map(|_| random_device(dice)).collect();
    world.links = (0..3).map(|_| random_link(dice)).collect();
    world.works.push(Work { flops: 700_000_000, first_download_bytes: 300_000, ..world.works[0].clone() });
    world.dropouts = (0..2).map(|_| dropout(dice)).collect();
    world.availabilities = (0..3).map(|_| availability(dice)).collect();
    for client in &mut world.clients {
        *client = Client {
            device: dice.below(3) as u32,
            link: dice.below(3) as u32,
            work: dice.below(2) as u32,
            dropout: dice.below(2) as u32,
            availability: dice.below(3) as u32,
            region: dice.below(u64::from(regions)) as u32,
            samples: dice.between(1, 100) as u32,
        };
    }
    world.network = network(dice, regions);
    if dice.chance(25) {
        let from = Time(dice.seconds(0, 20).0);
        let until = from.after(dice.seconds(1, 20));
        world.region_cuts.push(RegionCut { region: dice.below(u64::from(regions)) as u32, from, until });
    }
    world.interruption = [Interruption::Abandon, Interruption::Resume, Interruption::Restart][dice.below(3) as usize];
    world.server.selection = selection(dice, &world.server.protocol);
    world.server.candidates = if dice.chance(50) { Candidates::Online } else { Candidates::Everyone };
    world.server.memory = if dice.chance(50) { MemoryPolicy::Ineligible } else { MemoryPolicy::Fail };
    world.server.aggregation = Span::from_millis(dice.below(2) * 250);
    world.server.retry = dice.seconds(1, 30);
    world
}

fn random_device(dice: &mut Dice) -> Device {
    Device {
        memory_bytes: if dice.chance(15) { 100_000_000 } else { 1_000_000_000 },
        slowdown: dice.chance(60).then(|| Quantiles::log_normal(1_000_000_000, 0.4, 64).unwrap()),
        crashes: dice.chance(20).then(|| Crashes { mean_up: dice.seconds(2, 40), mean_down: dice.seconds(1, 20) }),
        ..device(dice.between(1, 8) * 250_000_000)
    }
}

fn random_link(dice: &mut Dice) -> Link {
    Link {
        latency: Span::from_millis(dice.below(3) * 40),
        latency_jitter: dice.chance(40).then(|| Quantiles::new(vec![0, 1_000_000, 90_000_000]).unwrap()),
        ..link(dice.between(1, 4) * 4_000_000, dice.between(1, 4) * 2_000_000)
    }
}

fn dropout(dice: &mut Dice) -> Dropout {
    if dice.chance(40) {
        return Dropout::default();
    }
    Dropout {
        before_training: dice.probability(20),
        during_training: dice.probability(30),
        after_training: dice.probability(20),
    }
}

fn availability(dice: &mut Dice) -> Availability {
    match dice.below(5) {
        0 | 1 => Availability::Always,
        2 => Availability::Markov { mean_online: dice.seconds(2, 60), mean_offline: dice.seconds(1, 20) },
        3 => Availability::Diurnal(Diurnal {
            period: Span::from_secs(60),
            ahead: dice.seconds(0, 59),
            opens: dice.seconds(0, 20),
            open_for: dice.seconds(1, 30),
            shift_below: dice.seconds(0, 10),
            shows_up: if dice.chance(50) { Probability::ONE } else { Probability::from_f64(0.7).unwrap() },
        }),
        _ => {
            let first = dice.between(0, 10);
            let second = first + dice.between(1, 30);
            let third = second + dice.between(1, 10);
            let online = [(first, second), (third, third + dice.between(1, 30))];
            let online = online.map(|(from, until)| (Time::from_secs(from), Time::from_secs(until))).to_vec();
            Availability::Trace { online, period: dice.chance(60).then(|| Span::from_secs(100)) }
        }
    }
}

fn capacity(dice: &mut Dice, megabit: u64) -> Capacity {
    let rate = |dice: &mut Dice| Rate::from_bits_per_s(dice.between(1, megabit) * 1_000_000);
    let initial = rate(dice);
    if dice.chance(50) {
        return Capacity::constant(initial);
    }
    let outage = if dice.chance(50) { Rate::ZERO } else { rate(dice) };
    let changes = vec![(Time::from_secs(3), outage), (Time::from_secs(7), rate(dice))];
    Capacity { initial, changes, period: dice.chance(50).then(|| Span::from_secs(15)) }
}

fn network(dice: &mut Dice, regions: u32) -> Network {
    match dice.below(3) {
        0 => Network::Unlimited,
        1 => Network::Server { egress: capacity(dice, 40), ingress: capacity(dice, 20) },
        _ => Network::Topology(topology(dice, regions)),
    }
}

/// Server, a core router, and a router for each region, connected both ways; sometimes a short cut.
fn topology(dice: &mut Dice, regions: u32) -> Topology {
    let mut nodes = vec!["server".to_string(), "core".to_string()];
    nodes.extend((0..regions).map(|region| format!("region {region}")));
    let mut pairs = vec![(0, 1)];
    pairs.extend((0..regions).map(|region| (1, 2 + region)));
    if dice.chance(30) {
        pairs.push((0, 2));
    }
    let mut links = Vec::new();
    for (a, b) in pairs {
        for (from, to) in [(a, b), (b, a)] {
            let latency = Span::from_millis(dice.below(4) * 10);
            links.push(TopologyLink { from, to, capacity: capacity(dice, 30), latency });
        }
    }
    Topology { nodes, links, server: 0, regions: (0..regions).map(|region| 2 + region).collect() }
}

fn synchronous(dice: &mut Dice) -> Synchronous {
    let cohort = dice.between(1, 5) as u32;
    Synchronous {
        cohort,
        over_selection: dice.below(3) as u32,
        deadline: dice.chance(60).then(|| dice.seconds(15, 40)),
        minimum: dice.between(1, u64::from(cohort)) as u32,
        stragglers: if dice.chance(70) { Stragglers::Stop } else { Stragglers::Finish },
    }
}

fn protocol(dice: &mut Dice, clients: u32, regions: u32) -> Protocol {
    let concurrency = dice.between(1, 6) as u32;
    let staleness_max = dice.chance(50).then(|| dice.below(4) as u32);
    let losses_max = dice.between(1, 30) as u32;
    match dice.below(7) {
        0 | 1 => Protocol::Synchronous(synchronous(dice)),
        2 => Protocol::SemiSynchronous(SemiSynchronous {
            window: dice.seconds(2, 20),
            concurrency,
            minimum: dice.between(1, 3) as u32,
            staleness_max: dice.below(3) as u32,
        }),
        3 => Protocol::Buffered(Buffered { concurrency, buffer: dice.between(1, 4) as u32, staleness_max, losses_max }),
        4 => Protocol::Asynchronous(Asynchronous { concurrency, staleness_max, losses_max }),
        5 => Protocol::Tiered(Tiered {
            tiers: dice.between(1, u64::from(clients.min(3))) as u32,
            cohort: dice.between(1, 3) as u32,
            deadline: dice.chance(50).then(|| dice.seconds(15, 40)),
            minimum: 1,
        }),
        _ => Protocol::Hierarchical(Hierarchical {
            edges: (0..regions).map(|_| edge(dice)).collect(),
            edge_rounds: dice.between(1, 3) as u32,
            within: synchronous(dice),
            download_bytes: 500_000,
            upload_bytes: 700_000,
        }),
    }
}

fn edge(dice: &mut Dice) -> EdgeLink {
    EdgeLink {
        down: Rate::from_bits_per_s(dice.between(1, 20) * 1_000_000),
        up: Rate::from_bits_per_s(dice.between(1, 20) * 1_000_000),
        latency: Span::from_millis(dice.below(3) * 20),
        transport: Transport::default(),
        egress: capacity(dice, 40),
        ingress: capacity(dice, 20),
    }
}

fn selection(dice: &mut Dice, protocol: &Protocol) -> Selection {
    match dice.below(8) {
        1 => Selection::BySize,
        2 => Selection::RoundRobin,
        3 => Selection::AvailabilityAware,
        4 => Selection::PowerOfChoice { draw: dice.between(1, 8) as u32 },
        5 => Selection::Oort(Oort {
            explore: Probability::from_f64(0.9).unwrap(),
            explore_decay: Probability::from_f64(0.98).unwrap(),
            explore_min: Probability::from_f64(0.2).unwrap(),
            preferred: dice.seconds(1, 10),
            penalty: 2,
            cutoff: Probability::from_f64(0.95).unwrap(),
        }),
        6 => Selection::PythonSample,
        7 => match protocol {
            Protocol::Synchronous(policy) if policy.over_selection == 0 => {
                Selection::Poisson { rate: Probability::from_f64(0.4).unwrap() }
            }
            _ => Selection::Uniform,
        },
        _ => Selection::Uniform,
    }
}
