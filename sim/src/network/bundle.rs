//! Bundles of flows with the same cap and the same route, which therefore have the same rate at every instant.
//!
//! A bundle's progress is the work that a flow would have done that was in the bundle from the beginning. A flow that
//! joins ends when the progress reaches its target, which is the progress at the time of joining plus the work of the
//! flow. Links usually come in a few classes, so a few bundles carry all flows, and a change of rate costs nothing per
//! flow.

use super::FlowWork;
use crate::kernel::SortedQueue;
use serde::{Deserialize, Serialize};

/// Identifier of a flow on a link. Flows that end at the same instant are reported in its order.
pub type FlowId = u32;

/// Index into the table of flows.
pub(super) type Slot = u32;

/// A flow, or the remains of one in a free slot.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Flow {
    id: FlowId,
    bundle: u32,
    /// Progress of the bundle at which the flow ends.
    target: u128,
    is_live: bool,
}

/// Entry of a bundle's queue: the 128-bit target of a flow, in two halves so that it needs no more than 8 bytes of
/// alignment, and the flow's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Target {
    high: u64,
    low: u64,
    slot: Slot,
}

impl Target {
    /// Splits a target.
    fn new(target: u128, slot: Slot) -> Self {
        Self { high: (target >> 64) as u64, low: target as u64, slot }
    }

    /// Returns the target.
    fn value(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }
}

/// Table of all flows of a link or network, by slot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Flows {
    rows: Vec<Flow>,
    free: Vec<Slot>,
}

impl Flows {
    /// Inserts a flow and returns its slot.
    fn insert(&mut self, flow: Flow) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.rows[slot as usize] = flow;
            return slot;
        }
        self.rows.push(flow);
        Slot::try_from(self.rows.len() - 1).expect("there are fewer than 2^32 flows")
    }

    /// Frees a slot and returns the identifier of its flow.
    ///
    /// # Panics
    /// If the slot is free already.
    fn free(&mut self, slot: Slot) -> FlowId {
        let flow = &mut self.rows[slot as usize];
        assert!(flow.is_live, "a flow ends once");
        flow.is_live = false;
        self.free.push(slot);
        flow.id
    }

    /// Returns the bundle of the flow in `slot`.
    pub fn bundle_of(&self, slot: Slot) -> u32 {
        self.rows[slot as usize].bundle
    }

    /// Iterates over the identifier and bundle of each flow.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, u32)> {
        self.rows.iter().filter(|flow| flow.is_live).map(|flow| (flow.id, flow.bundle))
    }
}

/// Flows of one cap and route.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bundle {
    index: u32,
    live: u32,
    progress: u128,
    /// Targets and slots, the least first. Entries of removed flows stay until they come first, or until they are the
    /// majority.
    targets: SortedQueue<Target>,
}

/// Number of removed flows that a bundle tolerates before it cleans up.
const STALE_MAX: usize = 64;

impl Bundle {
    /// Returns an empty bundle with this index.
    pub fn new(index: u32) -> Self {
        Self { index, live: 0, progress: 0, targets: SortedQueue::default() }
    }

    /// Returns the number of flows.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// Advances each flow by `work`.
    pub fn advance(&mut self, work: FlowWork) {
        self.progress = if self.live == 0 { 0 } else { self.progress + work.0 };
    }

    /// Adds a flow and returns its slot.
    pub fn insert(&mut self, flows: &mut Flows, id: FlowId, work: FlowWork) -> Slot {
        // An empty bundle starts again at zero, so that equal sets of flows have equal states, and targets do not grow
        // without bound.
        if self.live == 0 {
            self.progress = 0;
            self.targets = SortedQueue::default();
        }
        let target = self.progress + work.0;
        let slot = flows.insert(Flow { id, bundle: self.index, target, is_live: true });
        self.targets.push(Target::new(target, slot));
        self.live += 1;
        slot
    }

    /// Removes a flow and returns its remaining work.
    pub fn remove(&mut self, flows: &mut Flows, slot: Slot) -> FlowWork {
        flows.free(slot);
        self.live -= 1;
        // The queue cannot delete in its middle. Cleaning up when most entries are stale costs O(log n) per removal.
        if self.targets.len() > 2 * self.live as usize + STALE_MAX {
            let index = self.index;
            self.targets.retain(|target| is_current(flows, index, *target));
        }
        FlowWork(flows.rows[slot as usize].target.saturating_sub(self.progress))
    }

    /// Returns the remaining work of the flow that ends first.
    pub fn least_left(&mut self, flows: &Flows) -> Option<FlowWork> {
        while let Some(entry) = self.targets.peek() {
            if is_current(flows, self.index, *entry) {
                return Some(FlowWork(entry.value().saturating_sub(self.progress)));
            }
            self.targets.pop();
        }
        None
    }

    /// Removes all flows without remaining work and appends their identifiers to `ended`.
    pub fn take_ended(&mut self, flows: &mut Flows, ended: &mut Vec<FlowId>) {
        while let Some(entry) = self.targets.peek().copied() {
            let current = is_current(flows, self.index, entry);
            if current && entry.value() > self.progress {
                break;
            }
            self.targets.pop();
            if current {
                ended.push(flows.free(entry.slot));
                self.live -= 1;
            }
        }
    }
}

/// Returns whether an entry of a bundle's queue still refers to a live flow: its slot may have been reused since.
fn is_current(flows: &Flows, bundle: u32, target: Target) -> bool {
    let flow = &flows.rows[target.slot as usize];
    flow.is_live && flow.bundle == bundle && flow.target == target.value()
}
