//! The description of a federation: all inputs of a simulation.

use crate::client::{Availability, Client, Device, Dropout, Interruption, Link, NOMINAL_PPB, RegionCut, Work};
use crate::kernel::Span;
use crate::network::{Network, Sharing};
use crate::random::Seed;
use crate::record::Detail;
use crate::server::{EdgeLink, Hierarchical, Protocol, Server};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Description of a federation: clients as rows of indices into tables of classes, a network and a server.
///
/// All numbers are integers. Floating-point inputs are converted by the constructors of the parts, which round once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Federation {
    /// Master seed.
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
    /// Clients, by number.
    pub clients: Vec<Client>,
    /// Network between the clients' links and the server.
    pub network: Network,
    /// Weights by which transfers share the links of the network and of edges.
    pub sharing: Sharing,
    /// Periods in which regions are disconnected.
    pub region_cuts: Vec<RegionCut>,
    /// Handling of the tasks of clients that go offline.
    pub interruption: Interruption,
    /// Clients that keep finished updates back until those of all of them can enter one buffer: an attack on buffered
    /// aggregation, under which alone there may be any. The last bytes of their uploads are sent at one instant, when
    /// each of them that has a task has uploaded the rest and the buffer has room for all. If it is empty, or no other
    /// task is in flight, as many are sent as it has room for, the oldest tasks first.
    pub colluders: BTreeSet<u32>,
    /// Settings of selection, protocol and aggregation.
    pub server: Server,
    /// Level of detail of the records.
    pub detail: Detail,
}

impl Federation {
    /// Returns the device class of a client.
    pub(crate) fn device(&self, client: u32) -> &Device {
        &self.devices[self.clients[client as usize].device as usize]
    }

    /// Returns the link class of a client.
    pub(crate) fn link(&self, client: u32) -> &Link {
        &self.links[self.clients[client as usize].link as usize]
    }

    /// Returns the bytes on the wire of a message of `bytes` from or to a client.
    pub(crate) fn wire_bytes(&self, client: u32, bytes: u64) -> u64 {
        self.link(client).transport.overhead.wire_bytes(bytes)
    }

    /// Returns the cost of a client's tasks.
    pub(crate) fn work(&self, client: u32) -> &Work {
        &self.works[self.clients[client as usize].work as usize]
    }

    /// Returns the dropout class of a client.
    pub(crate) fn dropout(&self, client: u32) -> &Dropout {
        &self.dropouts[self.clients[client as usize].dropout as usize]
    }

    /// Returns the availability class of a client.
    pub(crate) fn availability(&self, client: u32) -> &Availability {
        &self.availabilities[self.clients[client as usize].availability as usize]
    }

    /// Returns the number of clients.
    pub(crate) fn client_count(&self) -> u32 {
        self.clients.len() as u32
    }

    /// Returns the settings of hierarchical aggregation, and those of one edge.
    pub(crate) fn edge(&self, edge: u32) -> (&Hierarchical, &EdgeLink) {
        match &self.server.protocol {
            Protocol::Hierarchical(policy) => (policy, &policy.edges[edge as usize]),
            protocol => unreachable!("{protocol:?} has no edges"),
        }
    }

    /// Returns the duration of a task of `client` without contention and jitter.
    pub(crate) fn nominal_task(&self, client: u32) -> Span {
        let link = self.link(client);
        let work = self.work(client);
        let download = link.transfer_span(work.download_bytes, link.down);
        let training = self.device(client).training_span(work, NOMINAL_PPB);
        let upload = link.transfer_span(work.upload_bytes, link.up);
        // A transfer that takes longer than representable time makes the whole as long as can be represented.
        Span(download.0.saturating_add(training.0).saturating_add(upload.0))
    }
}
