//! Assignment of clients to aggregators.

use crate::federation::Federation;
use crate::server::Protocol;
use serde::{Deserialize, Serialize};

/// The aggregator of each client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Groups {
    /// The server selects from all clients.
    One,
    /// The tier of each client.
    Tiers(Vec<u32>),
    /// The edge of each client's region.
    Regions,
}

impl Groups {
    /// Assigns the clients of a federation.
    pub fn new(federation: &Federation) -> Self {
        match &federation.server.protocol {
            Protocol::Tiered(policy) => Groups::Tiers(tiers(federation, policy.tiers)),
            Protocol::Hierarchical(_) => Groups::Regions,
            _ => Groups::One,
        }
    }

    /// Returns the aggregator that selects `client`. A client that was added after the tiers were formed is in the last
    /// one.
    pub fn aggregator(&self, federation: &Federation, client: u32) -> u32 {
        match self {
            Groups::One => 0,
            Groups::Tiers(tiers) => {
                let last = tiers.iter().max().copied().unwrap_or(1);
                tiers.get(client as usize).copied().unwrap_or(last)
            }
            Groups::Regions => federation.clients[client as usize].region + 1,
        }
    }
}

/// Ranks clients by nominal task time, ties by number, and cuts the ranking into `count` equal tiers, numbered from 1.
fn tiers(federation: &Federation, count: u32) -> Vec<u32> {
    let population = federation.client_count();
    let mut ranked: Vec<u32> = (0..population).collect();
    ranked.sort_by_key(|client| (federation.nominal_task(*client), *client));
    let mut tiers = vec![0; population as usize];
    for (rank, client) in (0u64..).zip(ranked) {
        tiers[client as usize] = 1 + (rank * u64::from(count) / u64::from(population)) as u32;
    }
    tiers
}
