//! The network as the world uses it: transfers by owner, and the time at which the next one ends.
//!
//! Owners are clients, by number, and edges. Clients of an edge use the edge's own links. Edges, and clients without an
//! edge, use the server's links.

use crate::federation::Federation;
use crate::kernel::{EntityId, Span, Time};
use crate::network::{Bottleneck, Capacity, Claim, FlowWork, Mesh, Network, Rate, Route};
use crate::server::Protocol;
use serde::{Deserialize, Serialize};

/// Direction of a transfer, as seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    /// From the server.
    Down = 0,
    /// To the server.
    Up = 1,
}

/// A transfer to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub way: Way,
    pub owner: u32,
    pub region: u32,
    pub claim: Claim,
    pub bytes: u64,
}

/// Returns the owner number of an edge, which is above those of all clients.
pub(super) const fn edge_owner(edge: u32) -> u32 {
    EntityId::MAX_INDEX - edge
}

/// One shared link per direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pair {
    down: Bottleneck,
    up: Bottleneck,
}

impl Pair {
    /// Returns two idle links with these capacities at time zero, which flows share equally or by weight.
    fn new(egress: &Capacity, ingress: &Capacity, is_equal: bool) -> Self {
        let [down, up] = [egress, ingress].map(|capacity| Bottleneck::new(capacity.at(Time::ZERO), is_equal));
        Self { down, up }
    }

    /// Returns the link of this direction.
    fn link(&mut self, way: Way) -> &mut Bottleneck {
        match way {
            Way::Down => &mut self.down,
            Way::Up => &mut self.up,
        }
    }

    /// Returns the time at which the next transfer ends.
    fn next_end(&mut self) -> Option<Time> {
        [self.down.next_end(), self.up.next_end()].into_iter().flatten().min()
    }

    /// Removes the transfers that end at `now` and appends their owners, by direction.
    fn take_ended(&mut self, now: Time, ended: &mut [Vec<u32>; 2]) {
        self.down.take_ended(now, &mut ended[0]);
        self.up.take_ended(now, &mut ended[1]);
    }
}

/// A graph of links. Route `2 r` leads to region r, route `2 r + 1` leads from it. A flow is identified by twice its
/// owner's number plus its direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Graph {
    mesh: Mesh,
    routes: Vec<[Route; 2]>,
}

/// The part of the network around the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Core {
    Star(Box<Pair>),
    Graph(Box<Graph>),
}

/// The shared parts of the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wires {
    core: Core,
    edges: Vec<Pair>,
}

impl Wires {
    /// Returns the idle network of a federation, with its capacities at time zero.
    pub fn new(federation: &Federation) -> Self {
        let is_equal = federation.sharing.is_equal();
        let core = match &federation.network {
            Network::Unlimited => {
                Core::Star(Box::new(Pair { down: Bottleneck::unlimited(), up: Bottleneck::unlimited() }))
            }
            Network::Server { egress, ingress } => Core::Star(Box::new(Pair::new(egress, ingress, is_equal))),
            Network::Topology(topology) => {
                let capacities = topology.links.iter().map(|link| link.capacity.at(Time::ZERO)).collect();
                let connected = topology.routes().into_iter().map(|route| route.expect("validated: connected"));
                let routes: Vec<[Route; 2]> = connected.collect();
                let links = routes.iter().flatten().map(|route| route.links.clone()).collect();
                Core::Graph(Box::new(Graph { mesh: Mesh::new(capacities, links), routes }))
            }
        };
        let edges = match &federation.server.protocol {
            Protocol::Hierarchical(policy) => {
                policy.edges.iter().map(|edge| Pair::new(&edge.egress, &edge.ingress, is_equal)).collect()
            }
            _ => Vec::new(),
        };
        Self { core, edges }
    }

    /// Returns the links of the edge that serves this owner, if it is a client of an edge.
    fn edge_of(&mut self, owner: u32, region: u32) -> Option<&mut Pair> {
        if self.has_edge(owner) { self.edges.get_mut(region as usize) } else { None }
    }

    /// Whether this owner is a client of an edge.
    fn has_edge(&self, owner: u32) -> bool {
        let edges = self.edges.len() as u32;
        edges > 0 && owner <= EntityId::MAX_INDEX - edges
    }

    /// Returns the latency between the server and this owner's own link.
    pub fn latency(&self, way: Way, owner: u32, region: u32) -> Span {
        if self.has_edge(owner) {
            return Span::ZERO;
        }
        match &self.core {
            Core::Star(_) => Span::ZERO,
            Core::Graph(graph) => graph.routes[region as usize][way as usize].latency,
        }
    }

    /// Returns the capacities at `now` of the shared links that a transfer of this owner crosses.
    pub fn capacities_of(&self, federation: &Federation, now: Time, way: Way, owner: u32, region: u32) -> Vec<Rate> {
        let all = capacities(federation);
        let of_core = all.len() - 2 * self.edges.len();
        let links = match &self.core {
            _ if self.has_edge(owner) => vec![(of_core + 2 * region as usize + way as usize) as u32],
            Core::Graph(graph) => graph.routes[region as usize][way as usize].links.clone(),
            Core::Star(_) if of_core == 0 => Vec::new(),
            Core::Star(_) => vec![way as u32],
        };
        links.into_iter().map(|link| all[link as usize].at(now)).collect()
    }

    /// Starts a transfer and returns its flow.
    pub fn start(&mut self, now: Time, transfer: Transfer) -> u32 {
        let Transfer { way, owner, region, claim, bytes } = transfer;
        let work = FlowWork::of_bytes(bytes);
        if let Some(edge) = self.edge_of(owner, region) {
            return edge.link(way).insert(now, owner, claim, work);
        }
        match &mut self.core {
            Core::Star(pair) => pair.link(way).insert(now, owner, claim, work),
            Core::Graph(graph) => graph.mesh.insert(now, 2 * owner + way as u32, 2 * region + way as u32, claim, work),
        }
    }

    /// Stops a transfer and returns the number of bytes that were left.
    pub fn stop(&mut self, now: Time, way: Way, owner: u32, region: u32, flow: u32) -> u64 {
        let left = match self.edge_of(owner, region) {
            Some(edge) => edge.link(way).remove(now, flow),
            None => match &mut self.core {
                Core::Star(pair) => pair.link(way).remove(now, flow),
                Core::Graph(graph) => graph.mesh.remove(now, flow),
            },
        };
        left.bytes_left()
    }

    /// Returns the time at which the next transfer ends.
    pub fn next_end(&mut self) -> Option<Time> {
        let core = match &mut self.core {
            Core::Star(pair) => pair.next_end(),
            Core::Graph(graph) => graph.mesh.next_end(),
        };
        self.edges.iter_mut().filter_map(Pair::next_end).chain(core).min()
    }

    /// Removes the transfers that end at `now` and returns their owners: of downloads, then of uploads, each ascending.
    pub fn take_ended(&mut self, now: Time) -> [Vec<u32>; 2] {
        let mut ended = [Vec::new(), Vec::new()];
        match &mut self.core {
            Core::Star(pair) => pair.take_ended(now, &mut ended),
            Core::Graph(graph) => {
                let mut names = Vec::new();
                graph.mesh.take_ended(now, &mut names);
                for name in names {
                    ended[(name % 2) as usize].push(name / 2);
                }
            }
        }
        if !self.edges.is_empty() {
            for edge in &mut self.edges {
                edge.take_ended(now, &mut ended);
            }
            // Each link gave its owners in ascending order; together they are sorted again.
            for owners in &mut ended {
                owners.sort_unstable();
            }
        }
        ended
    }

    /// Sets link `index` of [`capacities`] to its capacity at `now`, and returns the time of its next change.
    pub fn change_capacity(&mut self, federation: &Federation, index: u32, now: Time) -> Option<Time> {
        let all = capacities(federation);
        let capacity = *all.get(index as usize)?;
        let rate = capacity.at(now);
        // Links of the core come first, then two for each edge.
        let of_core = all.len() - 2 * self.edges.len();
        match (index as usize).checked_sub(of_core) {
            Some(of_edges) => self.edges[of_edges / 2].link(way_of(of_edges)).set_capacity(now, rate),
            None => match &mut self.core {
                Core::Star(pair) => pair.link(way_of(index as usize)).set_capacity(now, rate),
                Core::Graph(graph) => graph.mesh.set_capacity(now, index, rate),
            },
        }
        capacity.next_change(now)
    }
}

/// Returns the direction of a link in a list of alternating egress and ingress links.
fn way_of(index: usize) -> Way {
    if index.is_multiple_of(2) { Way::Down } else { Way::Up }
}

/// Returns the capacities of all shared links, by index: egress and ingress of the server, or the links of the
/// topology; then egress and ingress of each edge.
pub(super) fn capacities(federation: &Federation) -> Vec<&Capacity> {
    let mut all = match &federation.network {
        Network::Unlimited => Vec::new(),
        Network::Server { egress, ingress } => vec![egress, ingress],
        Network::Topology(topology) => topology.links.iter().map(|link| &link.capacity).collect(),
    };
    if let Protocol::Hierarchical(policy) = &federation.server.protocol {
        all.extend(policy.edges.iter().flat_map(|edge| [&edge.egress, &edge.ingress]));
    }
    all
}
