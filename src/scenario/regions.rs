//! Regions that a scenario names.

use super::schema::{Network, Protocol, ScenarioSpec};

/// Returns the regions of a scenario by number: those of edges as written, then those of the network, then those of
/// groups.
pub(crate) fn regions(scenario: &ScenarioSpec) -> Vec<String> {
    let mut mentions: Vec<&String> = vec![];
    if let Protocol::Hierarchical { edges, .. } = &scenario.server.protocol {
        mentions.extend(edges.iter().map(|edge| &edge.region));
    }
    if let Network::Topology { regions, .. } = &scenario.network {
        mentions.extend(regions.keys());
    }
    mentions.extend(scenario.population.mix.iter().filter_map(|group| group.region.as_ref()));
    // The first mention of a region gives it its number.
    let mut names: Vec<String> = vec![];
    for name in mentions {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}
