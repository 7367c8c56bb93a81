//! Flows that have the same cap and the same route: at every instant they have the same rate, so they move as one.
//!
//! A bundle's progress is what a flow that was in it from the beginning would have moved. A flow that joins is done
//! when the progress reaches its target, the progress at joining plus its work. Links usually come in a few classes, so
//! a few bundles carry all flows, and a change of rate costs nothing a flow.

use super::FlowWork;
use crate::kernel::SortedQueue;
use serde::{Deserialize, Serialize};

/// The name of a flow on a link; ends of one instant come in its order.
pub type FlowId = u32;

/// A place in the table of flows.
pub(super) type Slot = u32;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Flow {
    id: FlowId,
    bundle: u32,
    target: u128,
    is_live: bool,
}

/// When a flow of a bundle is done: a 128-bit target in two halves, which need no more than 8 bytes of alignment, and
/// the flow's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Target {
    high: u64,
    low: u64,
    slot: Slot,
}

impl Target {
    fn new(target: u128, slot: Slot) -> Self {
        Self { high: (target >> 64) as u64, low: target as u64, slot }
    }

    fn value(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }
}

/// All flows of a link or network, by slot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Flows {
    rows: Vec<Flow>,
    free: Vec<Slot>,
}

impl Flows {
    fn insert(&mut self, flow: Flow) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.rows[slot as usize] = flow;
            return slot;
        }
        self.rows.push(flow);
        Slot::try_from(self.rows.len() - 1).expect("there are fewer than 2^32 flows")
    }

    /// Frees a slot.
    ///
    /// # Panics
    /// If it is free: a flow ends once.
    fn free(&mut self, slot: Slot) -> FlowId {
        let flow = &mut self.rows[slot as usize];
        assert!(flow.is_live, "a flow ends once");
        flow.is_live = false;
        self.free.push(slot);
        flow.id
    }

    /// The bundle of the flow in `slot`.
    pub fn bundle_of(&self, slot: Slot) -> u32 {
        self.rows[slot as usize].bundle
    }

    /// The name and bundle of each flow.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, u32)> {
        self.rows.iter().filter(|flow| flow.is_live).map(|flow| (flow.id, flow.bundle))
    }
}

/// The flows of one cap and route.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bundle {
    index: u32,
    live: u32,
    progress: u128,
    /// Targets and slots, first the least. Flows that were removed stay until they come first, or until they are the
    /// greater part.
    targets: SortedQueue<Target>,
}

/// Removed flows that a bundle carries along before it cleans up.
const STALE_MAX: usize = 64;

impl Bundle {
    pub fn new(index: u32) -> Self {
        Self { index, live: 0, progress: 0, targets: SortedQueue::default() }
    }

    /// How many flows there are.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// Each flow moves `work`.
    pub fn advance(&mut self, work: FlowWork) {
        self.progress = if self.live == 0 { 0 } else { self.progress + work.0 };
    }

    pub fn insert(&mut self, flows: &mut Flows, id: FlowId, work: FlowWork) -> Slot {
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

    /// Removes a flow and returns what it had left.
    pub fn remove(&mut self, flows: &mut Flows, slot: Slot) -> FlowWork {
        flows.free(slot);
        self.live -= 1;
        if self.targets.len() > 2 * self.live as usize + STALE_MAX {
            let index = self.index;
            self.targets.retain(|target| is_current(flows, index, *target));
        }
        FlowWork(flows.rows[slot as usize].target.saturating_sub(self.progress))
    }

    /// What the first flow to end has left.
    pub fn least_left(&mut self, flows: &Flows) -> Option<FlowWork> {
        while let Some(entry) = self.targets.peek() {
            if is_current(flows, self.index, *entry) {
                return Some(FlowWork(entry.value().saturating_sub(self.progress)));
            }
            self.targets.pop();
        }
        None
    }

    /// Removes all flows that have nothing left and appends their names.
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

/// Whether an entry of a bundle's heap still stands for a flow. A slot may have been used again since.
fn is_current(flows: &Flows, bundle: u32, target: Target) -> bool {
    let flow = &flows.rows[target.slot as usize];
    flow.is_live && flow.bundle == bundle && flow.target == target.value()
}
