//! Network topologies: nodes, directed links with capacity and latency, and routes between the server and the regions.

use super::Capacity;
use crate::kernel::Span;
use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{EdgeRef, Reversed};
use serde::{Deserialize, Serialize};

/// A directed link of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyLink {
    /// Source node.
    pub from: u32,
    /// Target node.
    pub to: u32,
    /// Capacity shared by all flows that cross it.
    pub capacity: Capacity,
    /// Time before the first byte arrives.
    pub latency: Span,
}

/// A network of any shape. Clients are attached by their own links to the node of their region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Links, one per direction.
    pub links: Vec<TopologyLink>,
    /// Node of the server.
    pub server: u32,
    /// Node to which the clients of each region are attached, by region.
    pub regions: Vec<u32>,
}

/// A route between the server and a region, in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Links, in the order in which they are crossed.
    pub links: Vec<u32>,
    /// Sum of their latencies.
    pub latency: Span,
}

/// Returns a link's contribution to the cost of a path: latency in the high bits, number of links in the low 32. It is
/// positive, so no shortest path has a cycle.
fn cost(link: &TopologyLink) -> u128 {
    (u128::from(link.latency.0) << 32) + 1
}

impl Topology {
    /// Returns the topology as a graph whose edges are indices of links.
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

    /// Returns the routes from the server to each region, and back: those of least latency, then of fewest links, then
    /// of lowest link indices counted from the region's end. `None` for a region that is not connected in both
    /// directions.
    pub fn routes(&self) -> Vec<Option<[Route; 2]>> {
        let graph = self.graph();
        let server = NodeIndex::new(self.server as usize);
        // Dijkstra gives the distances, and routes are walked along tight edges, those on a shortest path. Ties are
        // broken by link index here, so that they do not depend on the library.
        let from_server = dijkstra(&graph, server, None, |edge| self.cost_of(*edge.weight()));
        let to_server = dijkstra(Reversed(&graph), server, None, |edge| self.cost_of(*edge.weight()));
        let mut routes = Vec::with_capacity(self.regions.len());
        for region in &self.regions {
            let node = NodeIndex::new(*region as usize);
            let down = self.walk(node, server, |at| {
                let incoming = graph.edges_directed(at, petgraph::Direction::Incoming);
                let tight = incoming.filter(|edge| {
                    let rest = from_server.get(&edge.source());
                    rest.is_some_and(|c| c + self.cost_of(*edge.weight()) == from_server[&at])
                });
                tight.map(|edge| (*edge.weight(), edge.source())).min()
            });
            let up = self.walk(node, server, |at| {
                let tight = graph.edges(at).filter(|edge| {
                    let rest = to_server.get(&edge.target());
                    rest.is_some_and(|c| to_server.get(&at) == Some(&(c + self.cost_of(*edge.weight()))))
                });
                tight.map(|edge| (*edge.weight(), edge.target())).min()
            });
            routes.push(match (down, up) {
                (Some(mut down), Some(up)) => {
                    // Both were walked from the region; bytes cross the way down from the server.
                    down.links.reverse();
                    Some([down, up])
                }
                _ => None,
            });
        }
        routes
    }

    /// Returns the cost of the link with this index.
    fn cost_of(&self, link: u32) -> u128 {
        cost(&self.links[link as usize])
    }

    /// Follows `step` from `node` to `server`. Returns `None` if there is no way.
    fn walk(
        &self,
        node: NodeIndex,
        server: NodeIndex,
        step: impl Fn(NodeIndex) -> Option<(u32, NodeIndex)>,
    ) -> Option<Route> {
        let mut links = Vec::new();
        let mut latency = Span::ZERO;
        let mut at = node;
        while at != server {
            let (link, next) = step(at)?;
            latency = Span(latency.0.saturating_add(self.links[link as usize].latency.0));
            links.push(link);
            at = next;
        }
        Some(Route { links, latency })
    }

    /// Returns what is wrong with the topology, if anything.
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
