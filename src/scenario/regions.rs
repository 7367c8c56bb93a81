//! The regions that a scenario names.

use super::schema::{Network, Protocol, Scenario};

/// The regions of a scenario by number: those of edges as written, then those of the network, then those of groups.
pub(crate) fn regions(scenario: &Scenario) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    let mut add = |name: &String| {
        if !names.contains(name) {
            names.push(name.clone());
        }
    };
    if let Protocol::Hierarchical { edges, .. } = &scenario.server.protocol {
        edges.iter().for_each(|edge| add(&edge.region));
    }
    if let Network::Topology { regions, .. } = &scenario.network {
        regions.keys().for_each(&mut add);
    }
    scenario.population.mix.iter().filter_map(|group| group.region.as_ref()).for_each(add);
    names
}
