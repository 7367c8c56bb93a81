//! Values of the scenario in the units of the simulator.

use fedreplay_sim as sim;
use fedreplay_sim::{Probability, Span, Time};

use crate::scenario::schema;

/// Converts a share, which the scenario's reader has checked to be from 0 to 1.
pub(super) fn probability(share: f64) -> Probability {
    Probability::from_f64(share).expect("the scenario's range is 0 to 1")
}

/// Converts a capacity to the simulator's units.
pub(super) fn capacity(capacity: &schema::Capacity) -> sim::Capacity {
    let changes = capacity.changes.iter().map(|(at, rate)| (Time(at.0), sim::Rate::from_bits_per_s(rate.0)));
    sim::Capacity {
        initial: sim::Rate::from_bits_per_s(capacity.initial.0),
        changes: changes.collect(),
        period: capacity.period.map(|period| Span(period.0)),
    }
}
