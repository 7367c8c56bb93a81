//! Validation of clients, the tables that they refer to, and the network.

use super::{Fault, Invalid, Place, first_zero};
use crate::client::{Availability, Client, Device, Dropout, Link, Traffic, Work};
use crate::federation::Federation;
use crate::kernel::{EntityId, Span};
use crate::network::{Capacity, Network, Rate, Sharing, Transport, Weights};
use crate::random::Probability;
use crate::server::Protocol;

/// Longest nominal duration of one phase of a task: ten years. A longer one is probably a mistake of units.
pub(super) const LONGEST: Span = Span::from_secs(10 * 365 * 86_400);

impl Federation {
    /// Checks clients and all tables of classes.
    pub(super) fn validate_population(&self) -> Result<(), Invalid> {
        let count = self.clients.len();
        // The upper half of the numbers is left to edges, which own transfers by numbers counted down from the top.
        let most = (EntityId::MAX_INDEX / 2) as usize;
        if count == 0 || count > most {
            return Err(Fault::new("clients", count, format!("1 to {most}")).at(Place::Federation));
        }
        for (index, client) in (0u32..).zip(&self.clients) {
            if let Some(fault) = self.client_fault(client) {
                return Err(fault.at(Place::Client(index)));
            }
        }
        self.validate_rows("devices", &self.devices, |client| client.device, device_fault)?;
        self.validate_rows("links", &self.links, |client| client.link, link_fault)?;
        self.validate_rows("works", &self.works, |client| client.work, work_fault)?;
        self.validate_rows("dropouts", &self.dropouts, |client| client.dropout, dropout_fault)?;
        self.validate_rows("availabilities", &self.availabilities, |client| client.availability, availability_fault)
    }

    /// Returns the fault of a client's own fields.
    fn client_fault(&self, client: &Client) -> Option<Fault> {
        let rows = [
            ("device", client.device, self.devices.len()),
            ("link", client.link, self.links.len()),
            ("work", client.work, self.works.len()),
            ("dropout", client.dropout, self.dropouts.len()),
            ("availability", client.availability, self.availabilities.len()),
        ];
        for (field, row, len) in rows {
            if row as usize >= len {
                return Some(Fault::new(field, row, format!("an index below {len}")));
            }
        }
        if client.samples == 0 { Some(Fault::zero("samples")) } else { None }
    }

    /// Checks a table. The error names the first client that uses the faulty row, because users know clients.
    fn validate_rows<T>(
        &self,
        table: &'static str,
        rows: &[T],
        index: impl Fn(&Client) -> u32,
        fault: impl Fn(&T) -> Option<Fault>,
    ) -> Result<(), Invalid> {
        for (row, value) in (0u32..).zip(rows) {
            if let Some(fault) = fault(value) {
                let user = (0u32..).zip(&self.clients).find(|(_, client)| index(client) == row);
                let place = match user {
                    Some((client, _)) => Place::Client(client),
                    None => Place::Row(table, row),
                };
                return Err(fault.at(place));
            }
        }
        Ok(())
    }

    /// Checks the topology and the capacities of all shared links.
    pub(super) fn validate_network(&self) -> Result<(), Invalid> {
        let mut shared: Vec<(String, &Capacity)> = match &self.network {
            Network::Unlimited => Vec::new(),
            Network::Server { egress, ingress } => vec![("egress".into(), egress), ("ingress".into(), ingress)],
            Network::Topology(topology) => {
                if let Some(fault) = topology.fault() {
                    return Err(Fault::new("topology", fault, "a connected graph").at(Place::Network));
                }
                let links = topology.links.iter().enumerate();
                links.map(|(index, link)| (format!("capacity of link {index}"), &link.capacity)).collect()
            }
        };
        if let Protocol::Hierarchical(policy) = &self.server.protocol {
            for (index, edge) in policy.edges.iter().enumerate() {
                shared.push((format!("egress of edge {index}"), &edge.egress));
                shared.push((format!("ingress of edge {index}"), &edge.ingress));
            }
        }
        for (name, capacity) in shared {
            if let Some(fault) = self.capacity_fault(&name, capacity) {
                return Err(fault.at(Place::Network));
            }
        }
        match sharing_fault(&self.sharing) {
            Some(fault) => Err(fault.at(Place::Network)),
            None => Ok(()),
        }
    }

    /// Returns the fault of a shared link's capacity.
    fn capacity_fault(&self, name: &str, capacity: &Capacity) -> Option<Fault> {
        if let Some(fault) = capacity.fault() {
            return Some(Fault::new(name, format!("{capacity:?}"), fault));
        }
        // Shares are rounded down to whole microbytes per second: with less than one for each client, a share could be
        // zero and its flow would never end.
        let least = Rate::from_microbytes_per_s(self.clients.len() as u64);
        let rates = capacity.changes.iter().map(|(_, rate)| *rate).chain([capacity.initial]);
        let thin = rates.filter(|rate| *rate > Rate::ZERO).find(|rate| *rate < least)?;
        Some(Fault::new(name, thin, "0, or at least a microbyte a second for each client"))
    }

    /// Checks that clients are in regions that the network and the edges have, and that region cuts end after they
    /// begin.
    pub(super) fn validate_regions(&self) -> Result<(), Invalid> {
        let of_network = match &self.network {
            Network::Topology(topology) => Some(topology.regions.len()),
            _ => None,
        };
        let of_edges = match &self.server.protocol {
            Protocol::Hierarchical(policy) => Some(policy.edges.len()),
            _ => None,
        };
        for count in [of_network, of_edges].into_iter().flatten() {
            if let Some(index) = self.clients.iter().position(|client| client.region as usize >= count) {
                let fault = Fault::new("region", self.clients[index].region, format!("a region below {count}"));
                return Err(fault.at(Place::Client(index as u32)));
            }
        }
        if let (Some(regions), Some(edges)) = (of_network, of_edges)
            && edges > regions
        {
            let allowed = format!("at most the {regions} regions of the topology");
            return Err(Fault::new("edges", edges, allowed).at(Place::Server));
        }
        for cut in &self.region_cuts {
            if cut.from >= cut.until || cut.region > EntityId::MAX_INDEX {
                let fault = Fault::new("region_cuts", format!("{cut:?}"), "cuts that end after they begin");
                return Err(fault.at(Place::Federation));
            }
        }
        Ok(())
    }

    /// Checks that no phase is implausibly long, and that at least one client can meet the deadline.
    pub(super) fn validate_durations(&self) -> Result<(), Invalid> {
        let mut fastest = Span(u64::MAX);
        for client in 0..self.client_count() {
            let phases = self.nominal_phases(client);
            if let Some((field, span)) = phases.iter().find(|(_, span)| *span > LONGEST) {
                return Err(Fault::new(field, span, format!("at most {LONGEST}")).at(Place::Client(client)));
            }
            fastest = fastest.min(Span(phases.iter().map(|(_, span)| span.0).sum()));
        }
        if let Some(deadline) = self.server.protocol.deadline()
            && deadline < fastest
        {
            let allowed = format!("at least {fastest}, the fastest task of any client");
            return Err(Fault::new("deadline", deadline, allowed).at(Place::Server));
        }
        Ok(())
    }

    /// Returns the shortest download, training and upload of a client.
    fn nominal_phases(&self, client: u32) -> [(&'static str, Span); 3] {
        let device = self.device(client);
        let link = self.link(client);
        let work = self.work(client);
        // The server's link bounds its clients, but not those of edges, which have links of their own.
        let (egress, ingress) = match (&self.server.protocol, &self.network) {
            (Protocol::Hierarchical(_), _) => (Rate::MAX, Rate::MAX),
            (_, Network::Server { egress, ingress }) => (egress.peak(), ingress.peak()),
            (_, Network::Unlimited | Network::Topology(_)) => (Rate::MAX, Rate::MAX),
        };
        let slowdown = device.slowdown.as_ref().map_or(crate::client::NOMINAL_PPB, |table| table.min());
        let [first, second] = [0, 1].map(|round| work.traffic(round));
        let longest = Traffic {
            download_bytes: first.download_bytes.max(second.download_bytes),
            upload_bytes: first.upload_bytes.max(second.upload_bytes),
        };
        [
            ("download time", link.transfer_span(longest.download_bytes, link.down.min(egress))),
            ("training time", device.training_span(work, slowdown)),
            ("upload time", link.transfer_span(longest.upload_bytes, link.up.min(ingress))),
        ]
    }
}

/// Returns the fault of a class of availability.
fn availability_fault(class: &Availability) -> Option<Fault> {
    let allowed = class.fault()?;
    Some(Fault::new("availability", format!("{class:?}"), allowed))
}

/// Returns the fault of a class of devices.
fn device_fault(device: &Device) -> Option<Fault> {
    let fields = [
        ("flops_per_s", device.flops_per_s),
        ("memory_bytes_per_s", device.memory_bytes_per_s),
        ("memory_bytes", device.memory_bytes),
    ];
    if let Some(fault) = first_zero(&fields) {
        return Some(fault);
    }
    if let Some(crashes) = device.crashes {
        let means = [("mean_up of crashes", crashes.mean_up.0), ("mean_down of crashes", crashes.mean_down.0)];
        if let Some(fault) = first_zero(&means) {
            return Some(fault);
        }
    }
    let table = device.slowdown.as_ref()?;
    if !table.is_sound() || table.min() == 0 {
        return Some(Fault::new("slowdown", format!("{table:?}"), "ascending factors above zero"));
    }
    None
}

/// Returns the fault of a class of links.
fn link_fault(link: &Link) -> Option<Fault> {
    let directions = [("down", link.down), ("up", link.up)];
    if let Some((field, rate)) = directions.iter().find(|(_, rate)| *rate == Rate::ZERO) {
        return Some(Fault::new(field, rate, "above 0 bit/s"));
    }
    if let Some(fault) = transport_fault(&link.transport) {
        return Some(fault);
    }
    let stalls = link.stalls.as_ref().map(|stalls| &stalls.span);
    let tables = [("latency_jitter", link.latency_jitter.as_ref()), ("stalls", stalls)];
    let (field, table) =
        tables.into_iter().find_map(|(field, table)| Some((field, table.filter(|it| !it.is_sound())?)))?;
    Some(Fault::new(field, format!("{table:?}"), "ascending times"))
}

/// Returns the fault of the weights of transfers.
fn sharing_fault(sharing: &Sharing) -> Option<Fault> {
    if let Weights::ByRoundTrip { least: Span(0), .. } = sharing.weights {
        return Some(Fault::new("least round trip of sharing", 0, "above 0 ns"));
    }
    let table = sharing.noise.as_ref()?;
    if !table.is_sound() || table.min() == 0 {
        return Some(Fault::new("noise of sharing", format!("{table:?}"), "ascending factors above zero"));
    }
    None
}

/// Returns the fault of a transport protocol.
pub(super) fn transport_fault(transport: &Transport) -> Option<Fault> {
    if let Some(fault) = transport.overhead.fault() {
        return Some(Fault::new("overhead", fault, "at least as many bytes on the wire, for at least 1"));
    }
    first_zero(&[("initial_window", transport.connection.initial_window.unwrap_or(1))])
}

/// Returns the fault of the cost of a task.
fn work_fault(work: &Work) -> Option<Fault> {
    let second = work.traffic(1);
    first_zero(&[
        ("flops", work.flops),
        ("download_bytes", work.download_bytes.min(second.download_bytes)),
        ("upload_bytes", work.upload_bytes.min(second.upload_bytes)),
    ])
}

/// Returns the fault of a class of dropout.
fn dropout_fault(dropout: &Dropout) -> Option<Fault> {
    let total = dropout.total_ppb();
    if total > u64::from(Probability::SCALE) {
        return Some(Fault::new("dropout", format!("{total} in 10^9 over all stages"), "at most 10^9 in 10^9"));
    }
    None
}
