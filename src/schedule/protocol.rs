//! Translation of a scenario's server to the simulator's: protocol and selection, with the units of the simulator.

use fedreplay_sim as sim;
use fedreplay_sim::{Probability, Span, Time};

use super::client_facts::Clients;
use super::transport::transport;
use crate::scenario::schema;
use crate::scenario::schema::{AggregationSpec, Discount, Protocol, ScenarioSpec, Selection};

/// Returns the simulated server of a scenario with these clients.
pub(super) fn server(scenario: &ScenarioSpec, clients: &Clients) -> sim::Server {
    let server = &scenario.server;
    let traffic = clients.costs.traffic_of_edges(scenario);
    let training = match (server.aggregation, clients.server_work) {
        (AggregationSpec::FlTrust { speed }, Some(work)) => {
            Span::of_work(clients.costs.works()[work as usize].flops, speed.0)
        }
        _ => Span::ZERO,
    };
    sim::Server {
        rounds: scenario.rounds,
        selection: selection(server.selection.get()),
        candidates: match server.candidates {
            schema::CandidatesSpec::Online => sim::Candidates::Online,
            schema::CandidatesSpec::Everyone => sim::Candidates::Everyone,
        },
        memory: match server.memory {
            schema::MemoryPolicy::Ineligible => sim::MemoryPolicy::Ineligible,
            schema::MemoryPolicy::Fail => sim::MemoryPolicy::Fail,
        },
        protocol: protocol(&server.protocol, traffic),
        aggregation: Span(server.aggregation_time.0),
        training,
        retry: Span(server.retry.0),
    }
}

fn selection(selection: Selection) -> sim::Selection {
    match selection {
        Selection::Uniform => sim::Selection::Uniform,
        Selection::Poisson { rate } => sim::Selection::Poisson { rate: probability(rate) },
        Selection::BySize => sim::Selection::BySize,
        Selection::RoundRobin => sim::Selection::RoundRobin,
        Selection::AvailabilityAware => sim::Selection::AvailabilityAware,
        Selection::PowerOfChoice { draw } => sim::Selection::PowerOfChoice { draw },
        Selection::Oort { explore, explore_decay, explore_min, preferred, penalty, cutoff } => {
            sim::Selection::Oort(sim::Oort {
                explore: probability(explore),
                explore_decay: probability(explore_decay),
                explore_min: probability(explore_min),
                preferred: Span(preferred.0),
                penalty,
                cutoff: probability(cutoff),
            })
        }
        Selection::PythonSample => sim::Selection::PythonSample,
    }
}

fn protocol(protocol: &Protocol, traffic: sim::Traffic) -> sim::Protocol {
    match *protocol {
        Protocol::Synchronous { clients_per_round, over_selection, deadline, minimum, stragglers } => {
            sim::Protocol::Synchronous(sim::Synchronous {
                cohort: clients_per_round,
                over_selection,
                deadline: deadline.map(|deadline| Span(deadline.0)),
                minimum,
                stragglers: match stragglers {
                    schema::Stragglers::Stop => sim::Stragglers::Stop,
                    schema::Stragglers::Finish => sim::Stragglers::Finish,
                },
            })
        }
        Protocol::SemiSynchronous { window, concurrency, minimum, max_staleness, .. } => {
            sim::Protocol::SemiSynchronous(sim::SemiSynchronous {
                window: Span(window.0),
                concurrency,
                minimum,
                staleness_max: max_staleness,
            })
        }
        Protocol::Buffered { concurrency, buffer_size, max_staleness, max_losses, .. } => {
            sim::Protocol::Buffered(sim::Buffered {
                concurrency,
                buffer: buffer_size,
                staleness_max: max_staleness,
                losses_max: max_losses,
            })
        }
        Protocol::Asynchronous { concurrency, max_staleness, max_losses, .. } => {
            sim::Protocol::Asynchronous(sim::Asynchronous {
                concurrency,
                staleness_max: max_staleness,
                losses_max: max_losses,
            })
        }
        Protocol::Tiered { tiers, clients_per_round, deadline, minimum, .. } => sim::Protocol::Tiered(sim::Tiered {
            tiers,
            cohort: clients_per_round,
            deadline: deadline.map(|deadline| Span(deadline.0)),
            minimum,
        }),
        Protocol::Hierarchical { .. } => hierarchical(protocol, traffic),
    }
}

fn hierarchical(protocol: &Protocol, traffic: sim::Traffic) -> sim::Protocol {
    let Protocol::Hierarchical { edges, edge_rounds, clients_per_round, over_selection, deadline, minimum } = protocol
    else {
        unreachable!("{protocol:?} has no edges");
    };
    // Between server and edges travels what travels between edges and clients, but for compression.
    sim::Protocol::Hierarchical(sim::Hierarchical {
        edges: edges.iter().map(edge_link).collect(),
        edge_rounds: *edge_rounds,
        within: sim::Synchronous {
            cohort: *clients_per_round,
            over_selection: *over_selection,
            deadline: deadline.map(|deadline| Span(deadline.0)),
            minimum: *minimum,
            stragglers: sim::Stragglers::Stop,
        },
        download_bytes: traffic.download_bytes,
        upload_bytes: traffic.upload_bytes,
    })
}

fn edge_link(edge: &schema::Edge) -> sim::EdgeLink {
    sim::EdgeLink {
        down: sim::Rate::from_bits_per_s(edge.down.0),
        up: sim::Rate::from_bits_per_s(edge.up.0),
        latency: Span(edge.latency.0),
        transport: edge.transport.as_ref().map(transport).unwrap_or_default(),
        egress: capacity(&edge.downlink),
        ingress: capacity(&edge.uplink),
    }
}

impl Discount {
    /// Returns the weight factor of an update that is `staleness` versions old.
    pub fn factor(&self, staleness: u32) -> f64 {
        let discount = match *self {
            Self::Constant => sim::Discount::Constant,
            Self::Polynomial { exponent } => sim::Discount::Polynomial { exponent },
            Self::Hinge { slope, from } => sim::Discount::Hinge { slope, from },
        };
        discount.factor(staleness)
    }
}

/// Converts a share, which the scenario's reader has checked to be from 0 to 1.
pub(super) fn probability(share: f64) -> Probability {
    Probability::from_f64(share).expect("the scenario's range is 0 to 1")
}

/// Converts a capacity to the simulator's units.
pub(super) fn capacity(capacity: &schema::Capacity) -> sim::Capacity {
    let changes = capacity.changes.iter().map(|(at, rate)| (Time(at.0), sim::Rate::from_bits_per_s(rate.0)));
    sim::Capacity {
        initial: sim::Rate::from_bits_per_s(capacity.initial.0),
        changes: changes.collect(),
        period: capacity.period.map(|period| Span(period.0)),
    }
}
