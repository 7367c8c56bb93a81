//! What selections remember from round to round.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A client's last counted task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    /// Its mean training loss [10^-9 nat/token]; the greatest until it is reported.
    pub loss_nanonats: u64,
    /// The round in which it counted.
    pub round: u32,
    /// From dispatch to arrival [ns].
    pub duration_ns: u64,
}

/// The memory of all policies; each uses what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    turns: BTreeMap<u32, u32>,
    last: BTreeMap<u32, Last>,
    /// How often Oort has selected.
    pub selections: u32,
}

impl Memory {
    /// Whose turn it is with this aggregator.
    pub fn next_in_turn(&mut self, aggregator: u32) -> &mut u32 {
        self.turns.entry(aggregator).or_default()
    }

    /// The last counted task of a client.
    pub fn last(&self, client: u32) -> Option<Last> {
        self.last.get(&client).copied()
    }

    /// Remembers that a task of this client counted.
    pub fn count(&mut self, client: u32, round: u32, duration_ns: u64) {
        self.last.insert(client, Last { loss_nanonats: u64::MAX, round, duration_ns });
    }

    /// Remembers the loss of the last counted task of this client.
    pub fn report(&mut self, client: u32, loss_nanonats: u64) {
        self.last.entry(client).or_default().loss_nanonats = loss_nanonats;
    }
}
