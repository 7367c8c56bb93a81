//! Changes of a scenario during a run, as interventions in the simulation.

use fedreplay_sim::Intervention;

use super::client_facts::Clients;
use super::federation::network;
use super::protocol::server;
use crate::scenario::Scenario;
use crate::scenario::schema::ScenarioSpec;

impl Scenario {
    /// Returns the interventions of the simulator that carry out the changes: for each phase its first round, and the
    /// interventions that take effect before that round.
    pub fn interventions(&self, clients: &Clients) -> Vec<(u32, Vec<Intervention>)> {
        let mut all = Vec::with_capacity(self.phases.len());
        let mut before = &self.scenario;
        for phase in &self.phases {
            all.push((phase.from_round, between(before, &phase.scenario, clients)));
            before = &phase.scenario;
        }
        all
    }
}

/// Returns the interventions that turn the simulated network and server of `before` into those of `now`.
fn between(before: &ScenarioSpec, now: &ScenarioSpec, clients: &Clients) -> Vec<Intervention> {
    let regions = &clients.placement.regions;
    let old_capacities = capacities(before, regions);
    let new_capacities = capacities(now, regions);
    let mut changes = Vec::new();
    // The topology itself cannot change, so links agree by their positions.
    for (link, (old, new)) in old_capacities.into_iter().zip(new_capacities).enumerate() {
        if old != new {
            changes.push(Intervention::SetCapacity { link: link as u32, capacity: new });
        }
    }
    let adapter_bytes = clients.costs.adapter_bytes();
    let old_server = server(before, adapter_bytes);
    let new_server = server(now, adapter_bytes);
    if old_server.selection != new_server.selection {
        changes.push(Intervention::SetSelection(new_server.selection));
    }
    if old_server.protocol != new_server.protocol {
        changes.push(Intervention::SetProtocol(new_server.protocol));
    }
    changes
}

/// Returns the capacities of the simulated network, in the order in which [`Intervention::SetCapacity`] numbers links.
fn capacities(scenario: &ScenarioSpec, regions: &[String]) -> Vec<fedreplay_sim::Capacity> {
    match network(scenario, regions) {
        fedreplay_sim::Network::Unlimited => vec![],
        fedreplay_sim::Network::Server { egress, ingress } => vec![egress, ingress],
        fedreplay_sim::Network::Topology(topology) => topology.links.into_iter().map(|link| link.capacity).collect(),
    }
}
