//! Refuses federations that cannot be played: costs of zero, indices without a row, deadlines nobody can meet.

use crate::client::{Device, Dropout, Link, Work};
use crate::federation::Federation;
use crate::kernel::{EntityId, Span};
use crate::network::{FlowWork, Network, Rate};
use crate::random::Probability;
use crate::server::{Protocol, Synchronous};
use std::fmt;

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this client, or in the class that it uses.
    Client(u32),
    /// In this row of a table, which no client uses.
    Row(&'static str, u32),
    /// In the settings of the server.
    Server,
    /// In the network.
    Network,
    /// In the federation as a whole.
    Federation,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Client(client) => write!(f, "client {client}"),
            Place::Row(table, row) => write!(f, "row {row} of {table}"),
            Place::Server => write!(f, "the server"),
            Place::Network => write!(f, "the network"),
            Place::Federation => write!(f, "the federation"),
        }
    }
}

/// A federation that cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to accept {place}: {field} is {value}; allowed: {allowed}")]
pub struct Invalid {
    /// Where.
    pub place: Place,
    /// Which field.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What would be accepted.
    pub allowed: String,
}

/// The longest that one phase of one task may take: ten years. Beyond it, a cost is taken for a mistake of units.
const LONGEST: Span = Span::from_secs(10 * 365 * 86_400);

/// A field, its value, and what is allowed instead.
type Fault = (&'static str, String, String);

impl Federation {
    /// Checks everything that [`crate::Simulation`] relies on.
    ///
    /// # Errors
    /// The first fault found, with the client or setting, the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.validate_population()?;
        self.validate_rows("devices", &self.devices, |client| client.device, device_fault)?;
        if !self.region_cuts.is_empty() || self.devices.iter().any(|device| device.crashes.is_some()) {
            let fault = ("region_cuts and crashes", "not empty".into(), "none, in this version".into());
            return Err(invalid(Place::Federation, fault));
        }
        self.validate_rows("links", &self.links, |client| client.link, link_fault)?;
        self.validate_rows("works", &self.works, |client| client.work, work_fault)?;
        self.validate_rows("dropouts", &self.dropouts, |client| client.dropout, dropout_fault)?;
        self.validate_network()?;
        self.validate_durations()?;
        self.validate_server()
    }

    fn validate_population(&self) -> Result<(), Invalid> {
        let count = self.clients.len();
        if count == 0 || count > EntityId::MAX_INDEX as usize {
            let allowed = format!("1 to {}", EntityId::MAX_INDEX);
            return Err(invalid(Place::Federation, ("clients", count.to_string(), allowed)));
        }
        for (index, client) in (0u32..).zip(&self.clients) {
            let rows = [
                ("device", client.device, self.devices.len()),
                ("link", client.link, self.links.len()),
                ("work", client.work, self.works.len()),
                ("dropout", client.dropout, self.dropouts.len()),
                ("availability", client.availability, self.availabilities.len()),
            ];
            for (field, row, len) in rows {
                if row as usize >= len {
                    let allowed = format!("an index below {len}");
                    return Err(invalid(Place::Client(index), (field, row.to_string(), allowed)));
                }
            }
            if client.samples == 0 {
                return Err(invalid(Place::Client(index), at_least_one("samples")));
            }
        }
        Ok(())
    }

    fn validate_rows<T>(
        &self,
        table: &'static str,
        rows: &[T],
        index: impl Fn(&crate::Client) -> u32,
        fault: impl Fn(&T) -> Option<Fault>,
    ) -> Result<(), Invalid> {
        for (row, value) in (0u32..).zip(rows) {
            if let Some(fault) = fault(value) {
                let user = (0u32..).zip(&self.clients).find(|(_, client)| index(client) == row);
                let place = user.map_or(Place::Row(table, row), |(client, _)| Place::Client(client));
                return Err(invalid(place, fault));
            }
        }
        Ok(())
    }

    fn validate_network(&self) -> Result<(), Invalid> {
        let Network::Server { egress, ingress } = &self.network else { return Ok(()) };
        for (name, capacity) in [("egress", egress), ("ingress", ingress)] {
            if let Some(fault) = capacity.fault() {
                return Err(invalid(Place::Network, (name, format!("{capacity:?}"), fault.into())));
            }
            let least = Rate::from_microbytes_per_s(self.clients.len() as u64);
            let too_thin = capacity.changes.iter().map(|(_, rate)| *rate).chain([capacity.initial]);
            if let Some(rate) = too_thin.filter(|rate| *rate > Rate::ZERO).find(|rate| *rate < least) {
                let allowed = "0, or a microbyte a second for each client".into();
                return Err(invalid(Place::Network, (name, rate.to_string(), allowed)));
            }
        }
        Ok(())
    }

    /// Refuses phases of absurd length, and a deadline that no client can meet.
    fn validate_durations(&self) -> Result<(), Invalid> {
        let mut fastest = Span(u64::MAX);
        for client in 0..self.client_count() {
            let phases = self.nominal_phases(client);
            for (field, span) in phases {
                if span > LONGEST {
                    let allowed = format!("at most {LONGEST}");
                    return Err(invalid(Place::Client(client), (field, span.to_string(), allowed)));
                }
            }
            fastest = fastest.min(Span(phases.iter().map(|(_, span)| span.0).sum()));
        }
        let Protocol::Synchronous(Synchronous { deadline: Some(deadline), .. }) = &self.server.protocol else {
            return Ok(());
        };
        if *deadline < fastest {
            let allowed = format!("at least {fastest}, the fastest task of any client");
            return Err(invalid(Place::Server, ("deadline", deadline.to_string(), allowed)));
        }
        Ok(())
    }

    /// The shortest download, training and upload of a client.
    fn nominal_phases(&self, client: u32) -> [(&'static str, Span); 3] {
        let (device, link, work) = (self.device(client), self.link(client), self.work(client));
        let (egress, ingress) = match &self.network {
            Network::Unlimited => (Rate::MAX, Rate::MAX),
            Network::Server { egress, ingress } => (egress.peak(), ingress.peak()),
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

    fn validate_server(&self) -> Result<(), Invalid> {
        let server = &self.server;
        let Protocol::Synchronous(policy) = &server.protocol;
        let faults = [
            (server.rounds == 0).then(|| at_least_one("rounds")),
            (server.retry == Span::ZERO).then(|| ("retry", "0s".into(), "a time above zero".into())),
            (policy.cohort == 0).then(|| at_least_one("cohort")),
            (policy.minimum == 0 || policy.minimum > policy.cohort)
                .then(|| ("minimum", policy.minimum.to_string(), format!("1 to the cohort of {}", policy.cohort))),
        ];
        match faults.into_iter().flatten().next() {
            Some(fault) => Err(invalid(Place::Server, fault)),
            None => Ok(()),
        }
    }
}

fn device_fault(device: &Device) -> Option<Fault> {
    if device.flops_per_s == 0 {
        return Some(at_least_one("flops_per_s"));
    }
    if device.memory_bytes_per_s == 0 {
        return Some(at_least_one("memory_bytes_per_s"));
    }
    if device.memory_bytes == 0 {
        return Some(at_least_one("memory_bytes"));
    }
    let table = device.slowdown.as_ref()?;
    let sound = table.is_sound() && table.min() > 0;
    (!sound).then(|| ("slowdown", format!("{table:?}"), "ascending factors above zero".into()))
}

fn link_fault(link: &Link) -> Option<Fault> {
    if link.down == Rate::ZERO {
        return Some(("down", "0 bit/s".into(), "above 0 bit/s".into()));
    }
    if link.up == Rate::ZERO {
        return Some(("up", "0 bit/s".into(), "above 0 bit/s".into()));
    }
    let table = link.latency_jitter.as_ref()?;
    (!table.is_sound()).then(|| ("latency_jitter", format!("{table:?}"), "ascending times".into()))
}

fn work_fault(work: &Work) -> Option<Fault> {
    [("flops", work.flops), ("download_bytes", work.download_bytes), ("upload_bytes", work.upload_bytes)]
        .into_iter()
        .find(|(_, value)| *value == 0)
        .map(|(field, _)| at_least_one(field))
}

fn dropout_fault(dropout: &Dropout) -> Option<Fault> {
    let total = dropout.total_ppb();
    let whole = u64::from(Probability::SCALE);
    (total > whole).then(|| ("dropout", format!("{total} in 10^9 over all stages"), "at most 10^9 in 10^9".into()))
}

fn at_least_one(field: &'static str) -> Fault {
    (field, "0".into(), "at least 1".into())
}

fn invalid(place: Place, (field, value, allowed): Fault) -> Invalid {
    Invalid { place, field: field.into(), value, allowed }
}
