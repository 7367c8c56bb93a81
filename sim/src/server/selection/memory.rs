//! State of selection policies across rounds.

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
