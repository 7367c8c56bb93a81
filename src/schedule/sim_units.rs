//! Values of the scenario in the units of the simulator.

use fedreplay_sim as sim;
use fedreplay_sim::{Probability, Span, Time};

use crate::scenario::{Rate, schema};

/// A number that the scenario's range holds within 0 to 1.
pub(super) fn probability(share: f64) -> Probability {
    Probability::from_f64(share).expect("the scenario's range is 0 to 1")
}

/// A capacity as virtual time takes it.
pub(super) fn capacity(capacity: &schema::Capacity) -> sim::Capacity {
    let rate = |rate: Rate| sim::Rate::from_bits_per_s(rate.0);
    sim::Capacity {
        initial: rate(capacity.initial),
        changes: capacity.changes.iter().map(|(at, value)| (Time(at.0), rate(*value))).collect(),
        period: capacity.period.map(|period| Span(period.0)),
    }
}
