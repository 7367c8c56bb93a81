//! Translation of a scenario to the federation that the simulator runs. Floats become integers here, rounded once.

use std::collections::{BTreeMap, BTreeSet};

use fedreplay_sim as sim;
use fedreplay_sim::{Quantiles, Seed, Span, Time};

use super::client_facts::{ClientFacts, Clients};
use super::placement::{DeviceClass, Place};
use super::protocol::server;
use super::protocol::{capacity, probability};
use super::transport::{radio, transport};
use crate::scenario::schema;
use crate::scenario::schema::{AttackTiming, Network, ScenarioSpec};

/// Points of a table of log-normal quantiles. The truncated tails would hold 1/1024 of the draws.
const JITTER_POINTS: u32 = 1024;
/// [10^-9] -- Median of the slowdown, and of the factor on a transfer's weight.
const NOMINAL_PPB: u64 = 1_000_000_000;

/// Returns the number of a name in a list of names, or 0 if it is not there.
fn number_of(name: &String, names: &[String]) -> u32 {
    names.iter().position(|known| known == name).unwrap_or(0) as u32
}

/// Returns the simulated federation of a scenario with these clients, which records its events in this detail.
pub fn federation(scenario: &ScenarioSpec, clients: &Clients, detail: sim::Detail) -> sim::Federation {
    let placement = &clients.placement;
    let regions = &placement.regions;
    let mut jitters = Jitters::default();
    sim::Federation {
        seed: Seed(scenario.seed),
        devices: placement.devices.iter().map(|class| device(class, &mut jitters)).collect(),
        links: placement.links.iter().map(|class| link(&class.link, &mut jitters)).collect(),
        works: clients.costs.works().to_vec(),
        dropouts: placement.dropouts.iter().map(dropout).collect(),
        availabilities: placement.availabilities.iter().map(availability).collect(),
        clients: clients.facts.iter().zip(&placement.places).map(|(facts, place)| client(facts, place)).collect(),
        network: network(scenario, regions),
        sharing: scenario.network_sharing.as_ref().map(|spec| sharing(spec, &mut jitters)).unwrap_or_default(),
        region_cuts: scenario.region_cuts.iter().map(|cut| region_cut(cut, regions)).collect(),
        interruption: match scenario.interruption {
            schema::Interruption::Abandon => sim::Interruption::Abandon,
            schema::Interruption::Resume => sim::Interruption::Resume,
            schema::Interruption::Restart => sim::Interruption::Restart,
        },
        colluders: match &scenario.attackers {
            Some(attackers) if attackers.timing == AttackTiming::SameBuffer => clients.attackers.clone(),
            _ => BTreeSet::new(),
        },
        server: server(scenario, clients),
        detail,
    }
}

fn region_cut(cut: &schema::RegionCut, regions: &[String]) -> sim::RegionCut {
    sim::RegionCut { region: number_of(&cut.region, regions), from: Time(cut.from.0), until: Time(cut.until.0) }
}

fn client(facts: &ClientFacts, place: &Place) -> sim::Client {
    sim::Client {
        device: place.device,
        link: place.link,
        work: facts.work,
        dropout: place.dropout,
        availability: place.availability,
        region: place.region.unwrap_or(0),
        samples: facts.train_rows,
    }
}

fn device(class: &DeviceClass, jitters: &mut Jitters) -> sim::Device {
    let DeviceClass { name, device, crashes } = class;
    sim::Device {
        name: name.clone(),
        // Tasks on devices without a speed have measured times.
        flops_per_s: device.speed.map_or(1, |speed| speed.0),
        memory_bytes: device.memory.map_or(u64::MAX, |memory| memory.0),
        memory_bytes_per_s: device.memory_bandwidth.map_or(u64::MAX, |bandwidth| bandwidth.0),
        idle_mw: milliwatts(device.idle_watts),
        busy_mw: milliwatts(device.busy_watts),
        crashes: crashes
            .map(|crashes| sim::Crashes { mean_up: Span(crashes.every.0), mean_down: Span(crashes.down_for.0) }),
        slowdown: match &device.slowdown {
            Some(quantiles) => Some(slowdown(quantiles)),
            None => (device.jitter > 0.0).then(|| jitters.log_normal(NOMINAL_PPB, device.jitter)),
        },
    }
}

fn slowdown(quantiles: &[f64]) -> Quantiles {
    // Factors become parts per billion; rounding keeps their order.
    let values = quantiles.iter().map(|factor| (factor * NOMINAL_PPB as f64).round() as u64).collect();
    Quantiles::new(values).expect("the scenario's check holds the quantiles in order")
}

fn link(link: &schema::Link, jitters: &mut Jitters) -> sim::Link {
    sim::Link {
        down: sim::Rate::from_bits_per_s(link.down.0),
        up: sim::Rate::from_bits_per_s(link.up.0),
        latency: Span(link.latency.0),
        latency_jitter: link.latency_jitter.map(|jitter| jitters.log_normal(jitter.median.0, jitter.sigma)),
        stalls: link.stalls.map(|stalls| sim::Stalls {
            share: probability(stalls.share),
            span: jitters.log_normal(stalls.median.0, stalls.sigma),
        }),
        transport: link.transport.as_ref().map(transport).unwrap_or_default(),
        radio: link.radio.as_ref().map(radio).unwrap_or_default(),
    }
}

fn sharing(sharing: &schema::LinkSharing, jitters: &mut Jitters) -> sim::Sharing {
    let weights = match sharing.weights {
        schema::LinkWeights::Equal => sim::Weights::Equal,
        schema::LinkWeights::ByRoundTrip { least, queue } => {
            sim::Weights::ByRoundTrip { least: Span(least.0), queue_bytes: queue.map_or(0, |bytes| bytes.0) }
        }
    };
    let noise = (sharing.spread > 0.0).then(|| jitters.log_normal(NOMINAL_PPB, sharing.spread));
    sim::Sharing { weights, noise }
}

/// Cache of tables of log-normal quantiles, since a trace may have one class per client.
#[derive(Default)]
struct Jitters(BTreeMap<(u64, u64), Quantiles>);

impl Jitters {
    fn log_normal(&mut self, median: u64, sigma: f64) -> Quantiles {
        let table = self.0.entry((median, sigma.to_bits())).or_insert_with(|| {
            Quantiles::log_normal(median, sigma, JITTER_POINTS).expect("the range for sigma is the table's")
        });
        table.clone()
    }
}

fn dropout(dropout: &schema::Dropout) -> sim::Dropout {
    sim::Dropout {
        before_training: probability(dropout.before_training),
        during_training: probability(dropout.during_training),
        after_training: probability(dropout.after_training),
    }
}

fn availability(availability: &schema::Availability) -> sim::Availability {
    match availability {
        schema::Availability::Always => sim::Availability::Always,
        schema::Availability::Markov { online, offline } => {
            sim::Availability::Markov { mean_online: Span(online.0), mean_offline: Span(offline.0) }
        }
        schema::Availability::Diurnal { period, time_zone, opens, open_for, shift, shows_up } => {
            sim::Availability::Diurnal(sim::Diurnal {
                period: Span(period.0),
                ahead: Span(time_zone.0),
                opens: Span(opens.0),
                open_for: Span(open_for.0),
                shift_below: Span(shift.0),
                shows_up: probability(*shows_up),
            })
        }
        schema::Availability::Trace { online, period } => sim::Availability::Trace {
            online: online.iter().map(|(from, until)| (Time(from.0), Time(until.0))).collect(),
            period: period.map(|period| Span(period.0)),
        },
    }
}

/// Returns the simulated network of a scenario with these regions.
pub(super) fn network(scenario: &ScenarioSpec, regions: &[String]) -> sim::Network {
    match &scenario.network {
        Network::ServerLink => sim::Network::Server {
            egress: server_capacity(&scenario.server.downlink),
            ingress: server_capacity(&scenario.server.uplink),
        },
        Network::Unlimited => sim::Network::Unlimited,
        Network::Topology { server, regions: places, links } => {
            // Nodes are numbered in the order of their names.
            let ends = links.iter().flat_map(|link| [&link.from, &link.to]);
            let names: BTreeSet<&String> = ends.chain(places.values()).chain([server]).collect();
            let nodes: Vec<String> = names.into_iter().cloned().collect();
            // A region of an edge that the network does not place is at the server.
            let regions =
                regions.iter().map(|region| number_of(places.get(region).unwrap_or(server), &nodes)).collect();
            let links = links.iter().flat_map(|link| graph_links(link, &nodes)).collect();
            let server = number_of(server, &nodes);
            sim::Network::Topology(sim::Topology { nodes, links, server, regions })
        }
    }
}

fn server_capacity(stated: &Option<schema::Capacity>) -> sim::Capacity {
    capacity(stated.as_ref().expect("a scenario with the server's link states its capacities"))
}

/// Returns a link of the graph as directed links: one, or two for a link in both directions.
fn graph_links(link: &schema::GraphLink, nodes: &[String]) -> Vec<sim::TopologyLink> {
    let from = number_of(&link.from, nodes);
    let to = number_of(&link.to, nodes);
    let latency = Span(link.latency.0);
    let mut directed = vec![sim::TopologyLink { from, to, capacity: capacity(&link.capacity), latency }];
    if !link.one_way {
        directed.push(sim::TopologyLink { from: to, to: from, capacity: capacity(&link.capacity), latency });
    }
    directed
}

fn milliwatts(watts: f64) -> u32 {
    (watts * 1e3).round().min(f64::from(u32::MAX)) as u32
}
