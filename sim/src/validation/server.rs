//! The settings of selection and protocol.

use super::{Fault, Invalid, Place, first_zero};
use crate::federation::Federation;
use crate::kernel::Span;
use crate::network::Rate;
use crate::random::Probability;
use crate::server::{Hierarchical, Protocol, Selection, Synchronous};

impl Federation {
    pub(super) fn validate_server(&self) -> Result<(), Invalid> {
        let server = &self.server;
        let retry = (server.retry == Span::ZERO).then(|| Fault::new("retry", server.retry, "a time above zero"));
        let fault = first_zero(&[("rounds", server.rounds.into())])
            .or(retry)
            .or_else(|| selection_fault(&server.selection, &server.protocol))
            .or_else(|| protocol_fault(&server.protocol, self.client_count()));
        fault.map_or(Ok(()), |fault| Err(fault.at(Place::Server)))
    }
}

impl Protocol {
    /// The deadline of its rounds.
    pub(super) fn deadline(&self) -> Option<Span> {
        match self {
            Protocol::Synchronous(policy) => policy.deadline,
            Protocol::Tiered(policy) => policy.deadline,
            Protocol::Hierarchical(policy) => policy.within.deadline,
            Protocol::SemiSynchronous(_) | Protocol::Buffered(_) | Protocol::Asynchronous(_) => None,
        }
    }
}

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

fn synchronous_fault(policy: &Synchronous) -> Option<Fault> {
    let Synchronous { cohort, minimum, .. } = *policy;
    let bad_minimum = minimum == 0 || minimum > cohort;
    first_zero(&[("cohort", cohort.into())])
        .or_else(|| bad_minimum.then(|| Fault::new("minimum", minimum, format!("1 to the cohort of {cohort}"))))
}

fn hierarchical_fault(policy: &Hierarchical) -> Option<Fault> {
    let zero = first_zero(&[
        ("edges", policy.edges.len() as u64),
        ("edge_rounds", policy.edge_rounds.into()),
        ("download_bytes", policy.download_bytes),
        ("upload_bytes", policy.upload_bytes),
    ]);
    let still = policy.edges.iter().position(|edge| edge.down == Rate::ZERO || edge.up == Rate::ZERO);
    let still = still.map(|edge| Fault::new(&format!("down or up of edge {edge}"), Rate::ZERO, "above 0 bit/s"));
    zero.or(still).or_else(|| synchronous_fault(&policy.within))
}

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
