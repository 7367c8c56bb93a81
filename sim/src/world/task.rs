//! Tasks in flight.

use super::wires::Way;
use crate::client::{Fate, Traffic};
use crate::kernel::Time;
use crate::record::TaskId;
use serde::{Deserialize, Serialize};

/// Phase of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Waiting to download: for the latency to pass, or for the client to come back.
    DownloadWaits,
    /// Downloading, in this slot of the network.
    Downloads { flow: u32 },
    /// The model has arrived; training is about to start.
    Downloaded,
    /// The device is training.
    Trains,
    /// Waiting to upload: for the latency to pass, or for the client to come back.
    UploadWaits,
    /// Uploading, in this slot of the network.
    Uploads { flow: u32 },
    /// All but the last byte of the update is at the server, where the client keeps it back for its colluders; the last
    /// transfer had this size.
    KeptBack { bytes: u64 },
    /// The update is at the server; the client is free again.
    Arrived,
}

/// A task from its dispatch to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Task {
    pub id: TaskId,
    pub client: u32,
    pub aggregator: u32,
    pub round: u32,
    /// Number of this task among its client's, from 0.
    pub number: u32,
    /// Model version that it starts from.
    pub based_on: u32,
    /// Number of versions that its aggregator had made at dispatch.
    pub generation: u32,
    pub phase: Phase,
    pub fate: Fate,
    /// Whether the client is unreachable; its transfers wait in the meantime.
    pub is_cut: bool,
    /// Number of times that it became unreachable.
    pub interruptions: u16,
    pub dispatched_at: Time,
    /// [`Time::NEVER`] until the step happens, like the three times below.
    pub download_done_at: Time,
    pub training_done_at: Time,
    pub upload_done_at: Time,
    /// Time at which training ends if the client does not give up.
    pub training_due_at: Time,
    pub bytes_down: u64,
    pub bytes_up: u64,
    pub wire_bytes_down: u64,
    pub wire_bytes_up: u64,
    /// Sizes of its whole transfers, with the base model in the first download.
    pub whole: Traffic,
    /// [byte] -- Remaining size of the current or next transfer.
    pub bytes_due: u64,
}

impl Task {
    /// Returns the direction and flow of the transfer that is under way.
    pub fn flow(&self) -> Option<(Way, u32)> {
        match self.phase {
            Phase::Downloads { flow } => Some((Way::Down, flow)),
            Phase::Uploads { flow } => Some((Way::Up, flow)),
            _ => None,
        }
    }

    /// Adds bytes that were transferred, and what they were on the wire.
    pub fn add_bytes(&mut self, way: Way, bytes: u64, wire_bytes: u64) {
        let (moved, on_wire) = match way {
            Way::Down => (&mut self.bytes_down, &mut self.wire_bytes_down),
            Way::Up => (&mut self.bytes_up, &mut self.wire_bytes_up),
        };
        *moved += bytes;
        *on_wire += wire_bytes;
    }
}

/// Tasks by slot. Slots are reused, the last freed first, so that equal runs use equal slots.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<u32>,
}

impl Tasks {
    /// Inserts a task and returns its slot.
    pub fn insert(&mut self, task: Task) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(task);
                slot
            }
            None => {
                self.slots.push(Some(task));
                self.slots.len() as u32 - 1
            }
        }
    }

    /// Removes the task in `slot`.
    pub fn remove(&mut self, slot: u32) -> Task {
        self.free.push(slot);
        self.slots[slot as usize].take().expect("a task ends once")
    }

    /// Returns the task in `slot`.
    pub fn get(&self, slot: u32) -> &Task {
        self.slots[slot as usize].as_ref().expect("a slot in use holds a task")
    }

    /// Returns the task in `slot`, for changes.
    pub fn get_mut(&mut self, slot: u32) -> &mut Task {
        self.slots[slot as usize].as_mut().expect("a slot in use holds a task")
    }

    /// Returns the slots of the tasks that `wanted` accepts, in order of their clients.
    pub fn find(&self, wanted: impl Fn(&Task) -> bool) -> Vec<u32> {
        let mut found: Vec<(u32, TaskId, u32)> = Vec::new();
        for (slot, task) in (0u32..).zip(&self.slots) {
            if let Some(task) = task
                && wanted(task)
            {
                found.push((task.client, task.id, slot));
            }
        }
        // The order of slots depends on which tasks ended before; that of clients does not.
        found.sort_unstable();
        found.into_iter().map(|(_, _, slot)| slot).collect()
    }

    /// Returns the number of tasks that have no record yet.
    pub fn len(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }
}
