//! A network as a graph: nodes, directed links with capacity and latency, and the routes between server and regions.

use super::Capacity;
use crate::kernel::Span;
use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{EdgeRef, Reversed};
use serde::{Deserialize, Serialize};

/// A directed link of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyLink {
    /// Node that it leaves.
    pub from: u32,
    /// Node that it enters.
    pub to: u32,
    /// Capacity shared by all flows that cross it.
    pub capacity: Capacity,
    /// Time before the first byte passes.
    pub latency: Span,
}

/// A network of any shape. Clients attach with their own links to the node of their region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// The links, one for each direction.
    pub links: Vec<TopologyLink>,
    /// The node of the server.
    pub server: u32,
    /// The node at which the clients of each region attach, by region.
    pub regions: Vec<u32>,
}

/// The links between the server and a region, one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Links in the order in which they are crossed.
    pub links: Vec<u32>,
    /// Sum of their latencies.
    pub latency: Span,
}

/// The cost of a path: latency first, then links. Both are positive for each link, so no path has a cycle.
fn cost(link: &TopologyLink) -> u128 {
    (u128::from(link.latency.0) << 32) + 1
}

impl Topology {
    /// The topology as a graph, with links as edges by index.
    pub fn graph(&self) -> DiGraph<&str, u32> {
        let mut graph = DiGraph::new();
        for node in &self.nodes {
            graph.add_node(node.as_str());
        }
        for (index, link) in (0u32..).zip(&self.links) {
            graph.add_edge(NodeIndex::new(link.from as usize), NodeIndex::new(link.to as usize), index);
        }
        graph
    }

    /// The routes from the server to each region, and back: least latency, then fewest links, then lowest link index
    /// from the region's end. `None` for a region that is not connected both ways.
    pub fn routes(&self) -> Vec<Option<[Route; 2]>> {
        let graph = self.graph();
        let server = NodeIndex::new(self.server as usize);
        let edge_cost = |index: &u32| cost(&self.links[*index as usize]);
        let from_server = dijkstra(&graph, server, None, |edge| edge_cost(edge.weight()));
        let to_server = dijkstra(Reversed(&graph), server, None, |edge| edge_cost(edge.weight()));
        let route = |region: &u32| {
            let node = NodeIndex::new(*region as usize);
            let mut down = self.walk(node, server, |at| {
                let incoming = graph.edges_directed(at, petgraph::Direction::Incoming);
                let tight = incoming.filter(|edge| {
                    from_server.get(&edge.source()).is_some_and(|c| c + edge_cost(edge.weight()) == from_server[&at])
                });
                tight.map(|edge| (*edge.weight(), edge.source())).min()
            })?;
            down.links.reverse();
            let up = self.walk(node, server, |at| {
                let tight = graph.edges(at).filter(|edge| {
                    let rest = to_server.get(&edge.target());
                    rest.is_some_and(|c| to_server.get(&at) == Some(&(c + edge_cost(edge.weight()))))
                });
                tight.map(|edge| (*edge.weight(), edge.target())).min()
            })?;
            Some([down, up])
        };
        self.regions.iter().map(route).collect()
    }

    /// Follows `step` from `node` until `server`.
    fn walk(
        &self,
        node: NodeIndex,
        server: NodeIndex,
        step: impl Fn(NodeIndex) -> Option<(u32, NodeIndex)>,
    ) -> Option<Route> {
        let (mut links, mut latency, mut at) = (Vec::new(), Span::ZERO, node);
        while at != server {
            let (link, next) = step(at)?;
            latency = Span(latency.0.saturating_add(self.links[link as usize].latency.0));
            links.push(link);
            at = next;
        }
        Some(Route { links, latency })
    }

    /// What is wrong with the topology, if anything.
    pub fn fault(&self) -> Option<String> {
        let nodes = self.nodes.len() as u32;
        for (index, link) in self.links.iter().enumerate() {
            if link.from >= nodes || link.to >= nodes || link.from == link.to {
                return Some(format!("link {index} from node {} to node {} of {nodes}", link.from, link.to));
            }
            if let Some(fault) = link.capacity.fault() {
                return Some(format!("link {index}: {fault}"));
            }
        }
        if self.server >= nodes {
            return Some(format!("the server at node {} of {nodes}", self.server));
        }
        if let Some(region) = self.regions.iter().position(|node| *node >= nodes) {
            return Some(format!("region {region} at node {} of {nodes}", self.regions[region]));
        }
        let region = self.routes().iter().position(Option::is_none)?;
        Some(format!("no way between the server and region {region}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Rate;

    fn link(from: u32, to: u32, latency: u64) -> TopologyLink {
        let capacity = Capacity::constant(Rate::from_bits_per_s(1_000));
        TopologyLink { from, to, capacity, latency: Span(latency) }
    }

    /// Server 0, backbone 1 and 2, regions at 3. Down over 1 (latency 2) although 2 comes first; up over 2.
    fn diamond() -> Topology {
        Topology {
            nodes: ["server", "a", "b", "region"].map(String::from).to_vec(),
            links: vec![link(0, 2, 5), link(2, 3, 5), link(0, 1, 1), link(1, 3, 1), link(3, 2, 1), link(2, 0, 1)],
            server: 0,
            regions: vec![3, 0],
        }
    }

    #[test]
    fn routes_take_the_least_latency() {
        let routes = diamond().routes();
        let [down, up] = routes[0].clone().unwrap();
        assert_eq!((down.links, down.latency), (vec![2, 3], Span(2)));
        assert_eq!((up.links, up.latency), (vec![4, 5], Span(2)));
        assert_eq!(routes[1].as_ref().unwrap()[0].links, [0u32; 0]);
        assert_eq!(diamond().fault(), None);
    }

    #[test]
    fn equal_routes_are_decided_by_the_lowest_link() {
        let mut topology = diamond();
        topology.links[2].latency = Span(9);
        let routes = topology.routes();
        assert_eq!(routes[0].as_ref().unwrap()[0].links, [0, 1]);
    }

    #[test]
    fn faults_name_the_link_or_region() {
        let mut topology = diamond();
        topology.links.pop();
        assert_eq!(topology.fault().unwrap(), "no way between the server and region 0");
        topology.links[1].to = 9;
        assert_eq!(topology.fault().unwrap(), "link 1 from node 2 to node 9 of 4");
    }
}
