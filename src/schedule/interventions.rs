//! The changes of a scenario from a round on, as interventions in virtual time.

use fedreplay_sim::Intervention;

use super::client_facts::Clients;
use super::federation::network;
use super::protocol::server;
use crate::scenario::Loaded;
use crate::scenario::schema::Scenario;

impl Loaded {
    /// What the changes of the scenario are in virtual time: the first round under them, and what is done before it.
    pub fn interventions(&self, clients: &Clients) -> Vec<(u32, Vec<Intervention>)> {
        let before = std::iter::once(&self.scenario).chain(self.phases.iter().map(|phase| &phase.scenario));
        let pairs = before.zip(&self.phases);
        pairs.map(|(before, phase)| (phase.from_round, between(before, &phase.scenario, clients))).collect()
    }
}

fn between(before: &Scenario, now: &Scenario, clients: &Clients) -> Vec<Intervention> {
    let regions = &clients.placement.regions;
    let capacities = |scenario| match network(scenario, regions) {
        fedreplay_sim::Network::Unlimited => vec![],
        fedreplay_sim::Network::Server { egress, ingress } => vec![egress, ingress],
        fedreplay_sim::Network::Topology(topology) => topology.links.into_iter().map(|link| link.capacity).collect(),
    };
    let pairs = capacities(before).into_iter().zip(capacities(now)).enumerate();
    let mut changes: Vec<Intervention> = pairs
        .filter(|(_, (before, now))| before != now)
        .map(|(link, (_, capacity))| Intervention::SetCapacity { link: link as u32, capacity })
        .collect();
    let of = |scenario| server(scenario, clients.costs.adapter_bytes());
    let (before, now) = (of(before), of(now));
    if before.selection != now.selection {
        changes.push(Intervention::SetSelection(now.selection));
    }
    if before.protocol != now.protocol {
        changes.push(Intervention::SetProtocol(now.protocol));
    }
    changes
}
