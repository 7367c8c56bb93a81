//! A link that flows share, equally or by weight.

use super::{Claim, FlowId, FlowWork, Mesh, Rate, SharedLink};
use crate::kernel::Time;
use serde::{Deserialize, Serialize};

/// A single link in the form that suits its flows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Bottleneck {
    /// Flows share it equally: fast, for any number of flows.
    Equal(SharedLink),
    /// Flows share it by weight: each change takes time in proportion to the flows of different weights.
    Weighted(Mesh),
}

impl Bottleneck {
    /// Returns an empty link of `capacity` at time zero.
    pub fn new(capacity: Rate, is_equal: bool) -> Self {
        if is_equal {
            return Self::Equal(SharedLink::new(capacity));
        }
        Self::Weighted(Mesh::new(vec![capacity], vec![vec![0]]))
    }

    /// Returns an empty link on which each flow has its cap.
    pub fn unlimited() -> Self {
        Self::Equal(SharedLink::unlimited())
    }

    /// Changes the capacity at `now`.
    pub fn set_capacity(&mut self, now: Time, capacity: Rate) {
        match self {
            Self::Equal(link) => link.set_capacity(now, capacity),
            Self::Weighted(mesh) => mesh.set_capacity(now, 0, capacity),
        }
    }

    /// Starts a flow at `now`. Returns the slot by which it can be removed.
    pub fn insert(&mut self, now: Time, id: FlowId, claim: Claim, work: FlowWork) -> u32 {
        match self {
            Self::Equal(link) => link.insert(now, id, claim.cap, work),
            Self::Weighted(mesh) => mesh.insert(now, id, 0, claim, work),
        }
    }

    /// Removes the flow in `slot` at `now` and returns its remaining work.
    pub fn remove(&mut self, now: Time, slot: u32) -> FlowWork {
        match self {
            Self::Equal(link) => link.remove(now, slot),
            Self::Weighted(mesh) => mesh.remove(now, slot),
        }
    }

    /// Returns the time at which the next flow ends.
    pub fn next_end(&mut self) -> Option<Time> {
        match self {
            Self::Equal(link) => link.next_end(),
            Self::Weighted(mesh) => mesh.next_end(),
        }
    }

    /// Removes all flows that have ended by `now` and appends their identifiers to `ended`, ascending.
    pub fn take_ended(&mut self, now: Time, ended: &mut Vec<FlowId>) {
        match self {
            Self::Equal(link) => link.take_ended(now, ended),
            Self::Weighted(mesh) => mesh.take_ended(now, ended),
        }
    }
}
