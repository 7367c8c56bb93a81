//! A task in flight.

use super::wires::Way;
use crate::client::Fate;
use crate::kernel::Time;
use crate::record::TaskId;
use serde::{Deserialize, Serialize};

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Waiting to download: for the latency to pass, or for the client to come back.
    DownloadWaits,
    /// Downloading, in this slot of the network.
    Downloads { flow: u32 },
    /// Has the model and decides whether to train.
    Downloaded,
    /// Training.
    Trains,
    /// Waiting to upload: for the latency to pass, or for the client to come back.
    UploadWaits,
    /// Uploading, in this slot of the network.
    Uploads { flow: u32 },
    /// At the server; the client is free again.
    Arrived,
}

/// A task from its dispatch to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Task {
    pub id: TaskId,
    pub client: u32,
    pub aggregator: u32,
    pub round: u32,
    /// The how-manieth of its client.
    pub number: u32,
    /// The version that it starts from.
    pub based_on: u32,
    /// How many versions its aggregator had made at dispatch.
    pub generation: u32,
    pub phase: Phase,
    pub fate: Fate,
    /// Whether the client is out of reach; its transfers wait then.
    pub is_cut: bool,
    /// How often it was out of reach.
    pub interruptions: u16,
    pub dispatched_at: Time,
    /// [`Time::NEVER`] until it happens, as the three below.
    pub download_done_at: Time,
    pub training_done_at: Time,
    pub upload_done_at: Time,
    /// When training would be done if the client did not give up.
    pub training_due_at: Time,
    pub bytes_down: u64,
    pub bytes_up: u64,
    /// Bytes that the present or next transfer has to move.
    pub bytes_due: u64,
}

impl Task {
    /// The transfer that is under way.
    pub fn flow(&self) -> Option<(Way, u32)> {
        match self.phase {
            Phase::Downloads { flow } => Some((Way::Down, flow)),
            Phase::Uploads { flow } => Some((Way::Up, flow)),
            _ => None,
        }
    }

    /// Adds bytes that moved.
    pub fn add_bytes(&mut self, way: Way, bytes: u64) {
        match way {
            Way::Down => self.bytes_down += bytes,
            Way::Up => self.bytes_up += bytes,
        }
    }
}

/// Tasks by slot. Slots are reused, last freed first, so that equal runs use equal slots.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<u32>,
}

impl Tasks {
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

    pub fn remove(&mut self, slot: u32) -> Task {
        self.free.push(slot);
        self.slots[slot as usize].take().expect("a task ends once")
    }

    pub fn get(&self, slot: u32) -> &Task {
        self.slots[slot as usize].as_ref().expect("a slot in use holds a task")
    }

    pub fn get_mut(&mut self, slot: u32) -> &mut Task {
        self.slots[slot as usize].as_mut().expect("a slot in use holds a task")
    }

    /// Slots of the tasks that `wanted` accepts, in order of their clients.
    pub fn find(&self, wanted: impl Fn(&Task) -> bool) -> Vec<u32> {
        let mut found: Vec<(u32, TaskId, u32)> = (0u32..)
            .zip(&self.slots)
            .filter_map(|(slot, task)| Some((slot, task.as_ref()?)))
            .filter(|(_, task)| wanted(task))
            .map(|(slot, task)| (task.client, task.id, slot))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, _, slot)| slot).collect()
    }

    /// How many tasks have no record yet.
    pub fn len(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }
}
