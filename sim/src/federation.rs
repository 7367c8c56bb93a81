//! The description of a federation: everything that decides what happens when.

use crate::client::{Availability, Client, Device, Dropout, Interruption, Link, NOMINAL_PPB, RegionCut, Work};
use crate::kernel::Span;
use crate::network::{FlowWork, Network};
use crate::random::Seed;
use crate::record::Detail;
use crate::server::{EdgeLink, Hierarchical, Protocol, Server};
use serde::{Deserialize, Serialize};

/// A federation: clients as rows of indices into tables of classes, a network and a server.
///
/// All numbers are integers; whoever has floats converts them with the constructors of the parts, which round once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Federation {
    /// The master seed.
    pub seed: Seed,
    /// Classes of devices.
    pub devices: Vec<Device>,
    /// Classes of links.
    pub links: Vec<Link>,
    /// Costs of tasks.
    pub works: Vec<Work>,
    /// Classes of dropout.
    pub dropouts: Vec<Dropout>,
    /// Classes of availability.
    pub availabilities: Vec<Availability>,
    /// The clients, by number.
    pub clients: Vec<Client>,
    /// What lies between the clients' links and the server.
    pub network: Network,
    /// Regions without connection, and when.
    pub region_cuts: Vec<RegionCut>,
    /// What becomes of the tasks of clients that go offline.
    pub interruption: Interruption,
    /// How the server selects, waits and aggregates.
    pub server: Server,
    /// How much is recorded.
    pub detail: Detail,
}

impl Federation {
    pub(crate) fn device(&self, client: u32) -> &Device {
        &self.devices[self.clients[client as usize].device as usize]
    }

    pub(crate) fn link(&self, client: u32) -> &Link {
        &self.links[self.clients[client as usize].link as usize]
    }

    pub(crate) fn work(&self, client: u32) -> &Work {
        &self.works[self.clients[client as usize].work as usize]
    }

    pub(crate) fn dropout(&self, client: u32) -> &Dropout {
        &self.dropouts[self.clients[client as usize].dropout as usize]
    }

    pub(crate) fn availability(&self, client: u32) -> &Availability {
        &self.availabilities[self.clients[client as usize].availability as usize]
    }

    pub(crate) fn client_count(&self) -> u32 {
        self.clients.len() as u32
    }

    /// The settings of edges, and those of one edge.
    pub(crate) fn edge(&self, edge: u32) -> (&Hierarchical, &EdgeLink) {
        match &self.server.protocol {
            Protocol::Hierarchical(policy) => (policy, &policy.edges[edge as usize]),
            protocol => unreachable!("{protocol:?} has no edges"),
        }
    }

    /// The time of an uncontended task of `client` without jitter.
    pub(crate) fn nominal_task(&self, client: u32) -> Span {
        let (link, work) = (self.link(client), self.work(client));
        let transfer = |bytes, cap| FlowWork::of_bytes(bytes).duration(cap).map_or(u64::MAX, |span| span.0);
        let parts = [
            2 * link.latency.0,
            transfer(work.download_bytes, link.down),
            self.device(client).training_span(work, NOMINAL_PPB).0,
            transfer(work.upload_bytes, link.up),
        ];
        Span(parts.into_iter().fold(0, u64::saturating_add))
    }
}
