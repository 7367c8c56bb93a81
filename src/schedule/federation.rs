//! From a scenario to the federation that virtual time plays: floats become integers here, rounded once.

use std::collections::{BTreeMap, BTreeSet};

use fedreplay_sim as sim;
use fedreplay_sim::{Quantiles, Seed, Span, Time};

use super::client_facts::{ClientFacts, Clients};
use super::placement::{DeviceClass, Place};
use super::protocol::server;
use super::sim_units::{capacity, probability};
use crate::scenario::schema;
use crate::scenario::schema::{Network, Scenario};

/// Points of a table of log-normal quantiles: the cut tails hold 1/1024 of the draws.
const JITTER_POINTS: u32 = 1024;
/// Median of the slowdown [10^-9].
const NOMINAL_PPB: u64 = 1_000_000_000;

/// The federation of a scenario with these clients, recorded in this detail.
pub fn federation(scenario: &Scenario, clients: &Clients, detail: sim::Detail) -> sim::Federation {
    let placement = &clients.placement;
    let regions = &placement.regions;
    let region = |name: &String| regions.iter().position(|known| known == name).unwrap_or(0) as u32;
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
        region_cuts: scenario
            .region_cuts
            .iter()
            .map(|cut| sim::RegionCut { region: region(&cut.region), from: Time(cut.from.0), until: Time(cut.until.0) })
            .collect(),
        interruption: match scenario.interruption {
            schema::Interruption::Abandon => sim::Interruption::Abandon,
            schema::Interruption::Resume => sim::Interruption::Resume,
            schema::Interruption::Restart => sim::Interruption::Restart,
        },
        server: server(scenario, clients.costs.adapter_bytes()),
        detail,
    }
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
        flops_per_s: device.speed.0,
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
    let values = quantiles.iter().map(|factor| (factor * NOMINAL_PPB as f64).round() as u64).collect();
    Quantiles::new(values).expect("the scenario's check holds the quantiles in order")
}

fn link(link: &schema::Link, jitters: &mut Jitters) -> sim::Link {
    sim::Link {
        down: sim::Rate::from_bits_per_s(link.down.0),
        up: sim::Rate::from_bits_per_s(link.up.0),
        latency: Span(link.latency.0),
        latency_jitter: link.latency_jitter.map(|jitter| jitters.log_normal(jitter.median.0, jitter.sigma)),
    }
}

/// Tables of log-normal quantiles, each made once: a trace may have a class for every client.
#[derive(Default)]
struct Jitters(BTreeMap<(u64, u64), Quantiles>);

impl Jitters {
    fn log_normal(&mut self, median: u64, sigma: f64) -> Quantiles {
        let make = || Quantiles::log_normal(median, sigma, JITTER_POINTS).expect("the range for sigma is the table's");
        self.0.entry((median, sigma.to_bits())).or_insert_with(make).clone()
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

/// The network of a scenario with these regions.
pub(super) fn network(scenario: &Scenario, regions: &[String]) -> sim::Network {
    let of_server = |given: &Option<schema::Capacity>| {
        capacity(given.as_ref().expect("a scenario with the server's link states its capacities"))
    };
    match &scenario.network {
        Network::ServerLink => sim::Network::Server {
            egress: of_server(&scenario.server.downlink),
            ingress: of_server(&scenario.server.uplink),
        },
        Network::Unlimited => sim::Network::Unlimited,
        Network::Topology { server, regions: places, links } => {
            let ends = links.iter().flat_map(|link| [&link.from, &link.to]);
            let names: BTreeSet<&String> = ends.chain(places.values()).chain([server]).collect();
            let nodes: Vec<String> = names.into_iter().cloned().collect();
            let node = |name: &String| nodes.iter().position(|known| known == name).unwrap_or(0) as u32;
            // A region of an edge that the network does not place is at the server.
            let regions = regions.iter().map(|region| node(places.get(region).unwrap_or(server))).collect();
            let links = links.iter().flat_map(|link| graph_links(link, node(&link.from), node(&link.to))).collect();
            let server = node(server);
            sim::Network::Topology(sim::Topology { nodes, links, server, regions })
        }
    }
}

fn graph_links(link: &schema::GraphLink, from: u32, to: u32) -> Vec<sim::TopologyLink> {
    let one =
        |from, to| sim::TopologyLink { from, to, capacity: capacity(&link.capacity), latency: Span(link.latency.0) };
    if link.one_way { vec![one(from, to)] } else { vec![one(from, to), one(to, from)] }
}

fn milliwatts(watts: f64) -> u32 {
    (watts * 1e3).round().min(f64::from(u32::MAX)) as u32
}
