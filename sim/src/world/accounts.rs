//! Totals between two round records, and the digest of results.

use crate::kernel::{Chain, Time};
use crate::record::{RoundRecord, RoundStatus, Tally, TaskRecord};
use serde::{Deserialize, Serialize};

/// Totals of an aggregator since its last round record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Period {
    pub dispatched: u32,
    pub counted: u32,
    pub late: u32,
    pub dropped: u32,
    pub cancelled: u32,
    pub bytes_down: u64,
    pub bytes_up: u64,
    pub wire_bytes_down: u64,
    pub wire_bytes_up: u64,
}

impl Period {
    /// Adds a task that ended.
    pub fn add(&mut self, record: &TaskRecord) {
        match record.outcome.tally() {
            Tally::Counted => self.counted += 1,
            Tally::Late => self.late += 1,
            Tally::Dropped => self.dropped += 1,
            Tally::Cancelled => self.cancelled += 1,
        }
        self.bytes_down += record.bytes_down;
        self.bytes_up += record.bytes_up;
        self.wire_bytes_down += record.wire_bytes_down;
        self.wire_bytes_up += record.wire_bytes_up;
    }
}

/// State of one aggregator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Desk {
    /// Time at which its current round opened.
    pub opened_at: Time,
    /// Version of its model.
    pub version: u32,
    /// Number of versions it has made or taken over; staleness is a difference of generations.
    pub generation: u32,
    /// Number of selections it has made.
    pub selections: u32,
    /// Number of its tasks that have no record yet.
    pub in_flight: u32,
    /// Totals since its last round record.
    pub period: Period,
}

/// Totals of the run, checked against the tasks in flight at the close of every round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub dispatched: u64,
    pub ended: u64,
}

/// Appends a round's decisions to the digest of results: counted tasks, bytes and versions. Times are in the order
/// digest, and bytes on the wire follow from the others.
pub(super) fn push_result(results: &mut Chain, record: &RoundRecord) {
    // The layout of a row defines the digest: little-endian fields in this order, with the number of counted tasks
    // before them so that two rounds never give the same bytes.
    let mut row = Vec::with_capacity(64 + 16 * record.counted_tasks.len());
    let status = match record.status {
        RoundStatus::Closed => 0u8,
        RoundStatus::Failed(failure) => 1 + failure as u8,
    };
    row.extend_from_slice(&record.round.to_le_bytes());
    row.extend_from_slice(&record.aggregator.to_le_bytes());
    row.extend_from_slice(&record.version.unwrap_or(0).to_le_bytes());
    row.push(status);
    row.extend_from_slice(&record.bytes_down.to_le_bytes());
    row.extend_from_slice(&record.bytes_up.to_le_bytes());
    row.extend_from_slice(&(record.counted_tasks.len() as u64).to_le_bytes());
    for counted in &record.counted_tasks {
        row.extend_from_slice(&counted.task.0.to_le_bytes());
        row.extend_from_slice(&counted.client.to_le_bytes());
        row.extend_from_slice(&counted.based_on_version.to_le_bytes());
    }
    for version in &record.merged_versions {
        row.extend_from_slice(&version.to_le_bytes());
    }
    results.push(&row);
}
