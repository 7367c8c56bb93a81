//! Clients, the tables that they refer to, and the network between them and the server.

use super::{Fault, Invalid, Place, first_zero};
use crate::client::{Client, Device, Dropout, Link, Work};
use crate::federation::Federation;
use crate::kernel::{EntityId, Span};
use crate::network::{Capacity, FlowWork, Network, Rate};
use crate::random::Probability;
use crate::server::Protocol;

/// The longest that one phase of one task may take: ten years. Beyond it, a cost is taken for a mistake of units.
const LONGEST: Span = Span::from_secs(10 * 365 * 86_400);

impl Federation {
    pub(super) fn validate_population(&self) -> Result<(), Invalid> {
        let count = self.clients.len();
        let most = (EntityId::MAX_INDEX / 2) as usize;
        if count == 0 || count > most {
            return Err(Fault::new("clients", count, format!("1 to {most}")).at(Place::Federation));
        }
        for (index, client) in (0u32..).zip(&self.clients) {
            self.client_fault(client).map_or(Ok(()), |fault| Err(fault.at(Place::Client(index))))?;
        }
        self.validate_rows("devices", &self.devices, |client| client.device, device_fault)?;
        self.validate_rows("links", &self.links, |client| client.link, link_fault)?;
        self.validate_rows("works", &self.works, |client| client.work, work_fault)?;
        self.validate_rows("dropouts", &self.dropouts, |client| client.dropout, dropout_fault)?;
        let availability_fault = |class: &crate::Availability| {
            class.fault().map(|allowed| Fault::new("availability", format!("{class:?}"), allowed))
        };
        self.validate_rows("availabilities", &self.availabilities, |client| client.availability, availability_fault)
    }

    fn client_fault(&self, client: &Client) -> Option<Fault> {
        let rows = [
            ("device", client.device, self.devices.len()),
            ("link", client.link, self.links.len()),
            ("work", client.work, self.works.len()),
            ("dropout", client.dropout, self.dropouts.len()),
            ("availability", client.availability, self.availabilities.len()),
        ];
        let missing = rows.iter().find(|(_, row, len)| *row as usize >= *len);
        let missing = missing.map(|(field, row, len)| Fault::new(field, row, format!("an index below {len}")));
        missing.or_else(|| (client.samples == 0).then(|| Fault::zero("samples")))
    }

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
                return Err(fault.at(user.map_or(Place::Row(table, row), |(client, _)| Place::Client(client))));
            }
        }
        Ok(())
    }

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
            let edges = policy.edges.iter().enumerate();
            shared.extend(edges.flat_map(|(index, edge)| {
                [(format!("egress of edge {index}"), &edge.egress), (format!("ingress of edge {index}"), &edge.ingress)]
            }));
        }
        let fault = shared.iter().find_map(|(name, capacity)| self.capacity_fault(name, capacity));
        fault.map_or(Ok(()), |fault| Err(fault.at(Place::Network)))
    }

    fn capacity_fault(&self, name: &str, capacity: &Capacity) -> Option<Fault> {
        if let Some(fault) = capacity.fault() {
            return Some(Fault::new(name, format!("{capacity:?}"), fault));
        }
        let least = Rate::from_microbytes_per_s(self.clients.len() as u64);
        let rates = capacity.changes.iter().map(|(_, rate)| *rate).chain([capacity.initial]);
        let thin = rates.filter(|rate| *rate > Rate::ZERO).find(|rate| *rate < least)?;
        Some(Fault::new(name, thin, "0, or at least a microbyte a second for each client"))
    }

    /// Refuses regions that the network or the edges do not have, and cuts that end before they begin.
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
        let bad = self.region_cuts.iter().find(|cut| cut.from >= cut.until || cut.region > EntityId::MAX_INDEX);
        let fault = bad.map(|cut| Fault::new("region_cuts", format!("{cut:?}"), "cuts that end after they begin"));
        fault.map_or(Ok(()), |fault| Err(fault.at(Place::Federation)))
    }

    /// Refuses phases of absurd length, and a deadline that no client can meet.
    pub(super) fn validate_durations(&self) -> Result<(), Invalid> {
        let mut fastest = Span(u64::MAX);
        for client in 0..self.client_count() {
            let phases = self.nominal_phases(client);
            if let Some((field, span)) = phases.iter().find(|(_, span)| *span > LONGEST) {
                return Err(Fault::new(field, span, format!("at most {LONGEST}")).at(Place::Client(client)));
            }
            fastest = fastest.min(Span(phases.iter().map(|(_, span)| span.0).sum()));
        }
        let Some(deadline) = self.server.protocol.deadline() else { return Ok(()) };
        if deadline < fastest {
            let allowed = format!("at least {fastest}, the fastest task of any client");
            return Err(Fault::new("deadline", deadline, allowed).at(Place::Server));
        }
        Ok(())
    }

    /// The shortest download, training and upload of a client.
    fn nominal_phases(&self, client: u32) -> [(&'static str, Span); 3] {
        let (device, link, work) = (self.device(client), self.link(client), self.work(client));
        let (egress, ingress) = match &self.network {
            Network::Server { egress, ingress } => (egress.peak(), ingress.peak()),
            Network::Unlimited | Network::Topology(_) => (Rate::MAX, Rate::MAX),
        };
        let (egress, ingress) = match &self.server.protocol {
            Protocol::Hierarchical(_) => (Rate::MAX, Rate::MAX),
            _ => (egress, ingress),
        };
        let transfer = |bytes, cap: Rate| {
            let moved = FlowWork::of_bytes(bytes).duration(cap).unwrap_or(Span(u64::MAX));
            Span(moved.0.saturating_add(link.latency.0))
        };
        let slowdown = device.slowdown.as_ref().map_or(crate::client::NOMINAL_PPB, |table| table.min());
        [
            ("download time", transfer(work.download_bytes, link.down.min(egress))),
            ("training time", device.training_span(work, slowdown)),
            ("upload time", transfer(work.upload_bytes, link.up.min(ingress))),
        ]
    }
}

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
    let sound = table.is_sound() && table.min() > 0;
    (!sound).then(|| Fault::new("slowdown", format!("{table:?}"), "ascending factors above zero"))
}

fn link_fault(link: &Link) -> Option<Fault> {
    let directions = [("down", link.down), ("up", link.up)];
    if let Some((field, rate)) = directions.iter().find(|(_, rate)| *rate == Rate::ZERO) {
        return Some(Fault::new(field, rate, "above 0 bit/s"));
    }
    let table = link.latency_jitter.as_ref()?;
    (!table.is_sound()).then(|| Fault::new("latency_jitter", format!("{table:?}"), "ascending times"))
}

fn work_fault(work: &Work) -> Option<Fault> {
    first_zero(&[("flops", work.flops), ("download_bytes", work.download_bytes), ("upload_bytes", work.upload_bytes)])
}

fn dropout_fault(dropout: &Dropout) -> Option<Fault> {
    let total = dropout.total_ppb();
    let is_too_much = total > u64::from(Probability::SCALE);
    is_too_much.then(|| Fault::new("dropout", format!("{total} in 10^9 over all stages"), "at most 10^9 in 10^9"))
}
