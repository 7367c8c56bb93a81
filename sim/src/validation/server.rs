//! Validation of the settings of selection and protocol.

use super::population::{LONGEST, transport_fault};
use super::{Fault, Invalid, Place, first_zero};
use crate::federation::Federation;
use crate::kernel::Span;
use crate::network::Rate;
use crate::random::Probability;
use crate::server::{Hierarchical, Protocol, Selection, Server, Synchronous};

impl Federation {
    /// Checks the settings of the server.
    pub(super) fn validate_server(&self) -> Result<(), Invalid> {
        if let Some(fault) = server_fault(&self.server, self.client_count()) {
            return Err(fault.at(Place::Server));
        }
        let has_buffer = matches!(self.server.protocol, Protocol::Buffered(_) | Protocol::Asynchronous(_));
        let last = self.colluders.last().copied();
        let allowed = match last {
            Some(_) if !has_buffer => "none: the protocol has no buffer".to_owned(),
            Some(last) if last >= self.client_count() => format!("clients below {}", self.client_count()),
            _ => return Ok(()),
        };
        Err(Fault::new("colluders", format!("{:?}", self.colluders), allowed).at(Place::Federation))
    }
}

impl Protocol {
    /// Returns the deadline of its rounds.
    pub(super) fn deadline(&self) -> Option<Span> {
        match self {
            Protocol::Synchronous(policy) => policy.deadline,
            Protocol::Tiered(policy) => policy.deadline,
            Protocol::Hierarchical(policy) => policy.within.deadline,
            Protocol::SemiSynchronous(_) | Protocol::Buffered(_) | Protocol::Asynchronous(_) => None,
        }
    }
}

/// Returns the first fault of the server's settings.
fn server_fault(server: &Server, clients: u32) -> Option<Fault> {
    if let Some(fault) = first_zero(&[("rounds", server.rounds.into())]) {
        return Some(fault);
    }
    if server.training > Span::ZERO && !matches!(server.protocol, Protocol::Synchronous(_)) {
        return Some(Fault::new("training", server.training, "0: only the server of synchronous rounds trains"));
    }
    if server.training > LONGEST {
        return Some(Fault::new("training", server.training, format!("at most {LONGEST}")));
    }
    if server.retry == Span::ZERO {
        return Some(Fault::new("retry", server.retry, "a time above zero"));
    }
    selection_fault(&server.selection, &server.protocol).or_else(|| protocol_fault(&server.protocol, clients))
}

/// Returns the fault of a protocol's settings.
fn protocol_fault(protocol: &Protocol, clients: u32) -> Option<Fault> {
    match protocol {
        Protocol::Synchronous(policy) => synchronous_fault(policy),
        Protocol::SemiSynchronous(policy) => first_zero(&[
            ("window", policy.window.0),
            ("concurrency", policy.concurrency.into()),
            ("minimum", policy.minimum.into()),
        ]),
        Protocol::Buffered(policy) => first_zero(&[
            ("concurrency", policy.concurrency.into()),
            ("buffer", policy.buffer.into()),
            ("losses_max", policy.losses_max.into()),
        ]),
        Protocol::Asynchronous(policy) => {
            first_zero(&[("concurrency", policy.concurrency.into()), ("losses_max", policy.losses_max.into())])
        }
        Protocol::Tiered(policy) if policy.tiers == 0 || policy.tiers > clients => {
            Some(Fault::new("tiers", policy.tiers, format!("1 to {clients}, the number of clients")))
        }
        Protocol::Tiered(policy) => synchronous_fault(&policy.within()),
        Protocol::Hierarchical(policy) => hierarchical_fault(policy),
    }
}

/// Returns the fault of the settings of synchronous rounds.
fn synchronous_fault(policy: &Synchronous) -> Option<Fault> {
    let Synchronous { cohort, minimum, .. } = *policy;
    if cohort == 0 {
        return Some(Fault::zero("cohort"));
    }
    if minimum == 0 || minimum > cohort {
        return Some(Fault::new("minimum", minimum, format!("1 to the cohort of {cohort}")));
    }
    None
}

/// Returns the fault of the settings of edges.
fn hierarchical_fault(policy: &Hierarchical) -> Option<Fault> {
    let zero = first_zero(&[
        ("edges", policy.edges.len() as u64),
        ("edge_rounds", policy.edge_rounds.into()),
        ("download_bytes", policy.download_bytes),
        ("upload_bytes", policy.upload_bytes),
    ]);
    if zero.is_some() {
        return zero;
    }
    for (index, edge) in policy.edges.iter().enumerate() {
        if edge.down == Rate::ZERO || edge.up == Rate::ZERO {
            return Some(Fault::new(&format!("down or up of edge {index}"), Rate::ZERO, "above 0 bit/s"));
        }
        if let Some(fault) = transport_fault(&edge.transport) {
            return Some(fault);
        }
    }
    synchronous_fault(&policy.within)
}

/// Returns the fault of a selection's settings, or of its combination with the protocol.
fn selection_fault(selection: &Selection, protocol: &Protocol) -> Option<Fault> {
    match selection {
        Selection::Poisson { rate } if *rate == Probability::ZERO => {
            Some(Fault::new("rate of Poisson selection", 0, "above 0"))
        }
        Selection::Poisson { .. } => match protocol {
            Protocol::Synchronous(policy) if policy.over_selection == 0 => None,
            Protocol::Synchronous(policy) => {
                Some(Fault::new("over_selection", policy.over_selection, "0 with Poisson selection"))
            }
            _ => Some(Fault::new("selection", "Poisson", "Poisson only with synchronous rounds, which it sizes")),
        },
        Selection::PowerOfChoice { draw } => first_zero(&[("draw", (*draw).into())]),
        Selection::Oort(policy) => first_zero(&[("preferred", policy.preferred.0)]),
        _ => None,
    }
}
