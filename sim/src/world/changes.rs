//! Interventions, by which a fork differs from its parent run, and their execution.

use super::state::{ClientState, Event, Happened, NO_TASK, World};
use super::wires::capacities;
use crate::client::{Client, Traffic};
use crate::federation::Federation;
use crate::kernel::{Class, Ctx, EntityId};
use crate::network::{Capacity, Network};
use crate::random::{Purpose, Seed};
use crate::record::EventKind;
use crate::server::{Protocol, Selection};
use crate::validation::Invalid;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A change to a running simulation. It takes effect one nanosecond after the last processed event, or before the first
/// event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intervention {
    /// No change: the fork keeps its digests.
    None,
    /// A client goes offline permanently.
    Drop(u32),
    /// A client is added, with the next number and with rows of the existing tables.
    Add(Client),
    /// A link of the network gets another capacity, as a function of the time since the start of the run. Link 0 is the
    /// egress and link 1 the ingress of the server; with a topology, links are numbered by its list.
    SetCapacity {
        /// Number of the link.
        link: u32,
        /// New capacity.
        capacity: Capacity,
    },
    /// Another selection policy is used from the next request on.
    SetSelection(Selection),
    /// Other settings of the same protocol are used from the next decision on.
    SetProtocol(Protocol),
    /// Tasks of all clients have other transfers from the next dispatch on.
    SetTraffic {
        /// Transfers of a task.
        traffic: Traffic,
        /// Transfers in every second round, if they differ.
        every_second_round: Option<Traffic>,
    },
    /// One purpose gets another seed. Streams of all other purposes draw the same numbers as before.
    Reseed {
        /// Purpose.
        purpose: Purpose,
        /// New seed.
        seed: Seed,
    },
}

impl World {
    /// Applies the intervention with this index.
    pub(super) fn intervene(&mut self, index: u32, ctx: &mut Ctx<'_, Self>) {
        let intervention = self.interventions[index as usize].clone();
        self.note_event(EventKind::Intervened, Happened::default(), ctx);
        let federation = Arc::make_mut(&mut self.federation);
        match intervention {
            Intervention::None => {}
            Intervention::Drop(client) => self.drop_client(client, ctx),
            Intervention::Add(client) => {
                federation.clients.push(client);
                self.clients.push(ClientState::IDLE);
            }
            Intervention::SetCapacity { link, capacity } => {
                *capacity_mut(federation, link) = capacity;
                // Makes the pending change of the old capacity stale.
                let stamp = &mut self.capacity_stamps[link as usize];
                *stamp = stamp.wrapping_add(1);
                self.change_capacity(link, ctx);
            }
            Intervention::SetSelection(selection) => federation.server.selection = selection,
            Intervention::SetProtocol(protocol) => {
                assert!(self.protocol.reconfigure(&protocol), "a fork keeps the kind of its protocol");
                federation.server.protocol = protocol;
            }
            Intervention::SetTraffic { traffic, every_second_round } => {
                set_traffic(federation, traffic, every_second_round);
            }
            Intervention::Reseed { purpose, seed } => {
                self.seeds.reseed(purpose, seed);
                self.presence.forget();
            }
        }
    }

    /// Makes a client unreachable for good, and interrupts its running task.
    fn drop_client(&mut self, client: u32, ctx: &mut Ctx<'_, Self>) {
        self.presence.depart(client);
        let slot = self.clients[client as usize].slot;
        if slot != NO_TASK {
            let task = self.tasks.get(slot).number;
            // One nanosecond later, because an event may only schedule a greater key, and at the same instant the
            // client's key need not be greater than this event's.
            let at = ctx.now().after(crate::kernel::Span(1));
            ctx.schedule(at, Class::Leave, EntityId::client(client), Event::PresenceChanges { task });
        }
    }

    /// Checks an intervention against this world.
    ///
    /// # Errors
    /// If it refers to something that does not exist, or makes the federation invalid.
    pub fn check(&self, intervention: &Intervention) -> Result<(), Invalid> {
        if let Some(fault) = self.fault_of(intervention) {
            return Err(Invalid::intervention(fault));
        }
        let mut changed = Federation::clone(&self.federation);
        match intervention {
            Intervention::Add(client) => changed.clients.push(*client),
            Intervention::SetCapacity { link, capacity } => *capacity_mut(&mut changed, *link) = capacity.clone(),
            Intervention::SetSelection(selection) => changed.server.selection = *selection,
            Intervention::SetProtocol(protocol) => changed.server.protocol = protocol.clone(),
            Intervention::SetTraffic { traffic, every_second_round } => {
                set_traffic(&mut changed, *traffic, *every_second_round);
            }
            Intervention::None | Intervention::Drop(_) | Intervention::Reseed { .. } => return Ok(()),
        }
        changed.validate()
    }

    /// Returns what is wrong with an intervention's references, if anything.
    fn fault_of(&self, intervention: &Intervention) -> Option<String> {
        let clients = self.clients.len();
        match intervention {
            Intervention::Drop(client) if *client as usize >= clients => Some(format!("client {client} of {clients}")),
            Intervention::SetCapacity { link, .. } if *link as usize >= capacities(&self.federation).len() => {
                Some(format!("link {link} of {}", capacities(&self.federation).len()))
            }
            Intervention::SetProtocol(protocol) if !self.protocol.clone().reconfigure(protocol) => {
                Some("a protocol of another kind".into())
            }
            _ => None,
        }
    }
}

/// Gives all tasks these transfers.
fn set_traffic(federation: &mut Federation, traffic: Traffic, every_second_round: Option<Traffic>) {
    for work in &mut federation.works {
        work.download_bytes = traffic.download_bytes;
        work.upload_bytes = traffic.upload_bytes;
        work.every_second_round = every_second_round;
    }
}

/// Returns the capacity with this index in [`capacities`].
pub(super) fn capacity_mut(federation: &mut crate::Federation, index: u32) -> &mut crate::Capacity {
    let mut index = index as usize;
    let links = match &mut federation.network {
        Network::Unlimited => Vec::new(),
        Network::Server { egress, ingress } => vec![egress, ingress],
        Network::Topology(topology) => topology.links.iter_mut().map(|link| &mut link.capacity).collect(),
    };
    if index < links.len() {
        return links.into_iter().nth(index).expect("just compared");
    }
    // The edges' links follow those of the network: egress, then ingress of each edge.
    index -= links.len();
    match &mut federation.server.protocol {
        Protocol::Hierarchical(policy) => {
            let edge = &mut policy.edges[index / 2];
            if index.is_multiple_of(2) { &mut edge.egress } else { &mut edge.ingress }
        }
        _ => unreachable!("only edges have links of their own"),
    }
}
