//! State of selection policies across rounds, and the training results that they read.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Result of a client's last counted task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    /// [10^-9 nat/token] -- Mean training loss; the greatest value until it is reported.
    pub loss_nanonats: u64,
    /// Round in which the task was dispatched.
    pub round: u32,
    /// [ns] -- Time from dispatch to arrival.
    pub duration_ns: u64,
}

/// State of all policies. Each policy uses the parts that it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Next client in turn, by aggregator.
    turns: BTreeMap<u32, u32>,
    /// Last counted task, by client.
    last: BTreeMap<u32, Last>,
    /// Number of selections that Oort has made.
    pub selections: u32,
}

impl Memory {
    /// Returns the next client in turn at this aggregator.
    pub fn next_in_turn(&mut self, aggregator: u32) -> &mut u32 {
        self.turns.entry(aggregator).or_default()
    }

    /// Returns the last counted task of a client.
    pub fn last(&self, client: u32) -> Option<Last> {
        self.last.get(&client).copied()
    }

    /// Stores that a task of this client counted; its loss is still unknown.
    pub fn count(&mut self, client: u32, round: u32, duration_ns: u64) {
        self.last.insert(client, Last { loss_nanonats: u64::MAX, round, duration_ns });
    }

    /// Stores the loss of the last counted task of this client.
    pub fn report(&mut self, client: u32, loss_nanonats: u64) {
        self.last.entry(client).or_default().loss_nanonats = loss_nanonats;
    }
}

/// Training result of a counted task, supplied by the driver when a policy needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// [10^-9 nat/token] -- Mean training loss.
    pub loss_nanonats: u64,
}

impl TaskReport {
    /// Returns a report of a loss in [nat/token], rounded once. A loss that is negative or not finite becomes the
    /// greatest loss, so that the schedule stays defined: a client whose training diverged looks like one with much to
    /// learn.
    pub fn from_loss(loss: f64) -> Self {
        let nano = libm::rint(loss * 1e9);
        let in_range = nano >= 0.0 && nano < u64::MAX as f64;
        Self { loss_nanonats: if in_range { nano as u64 } else { u64::MAX } }
    }
}
