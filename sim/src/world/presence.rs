//! Reachability of clients: availability, crashes and region cuts combined.

use crate::client::{Alternating, Sojourn, Status};
use crate::federation::Federation;
use crate::kernel::Time;
use crate::random::{Purpose, Seeds};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Reachability of a client at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether its device is up.
    pub is_up: bool,
    /// Whether its device is up and the client can be reached.
    pub is_reachable: bool,
    /// Time at which either may change; `None` if never.
    pub until: Option<Time>,
}

/// Clients that left for good, and the memoized states of random alternations.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Presence {
    departed: BTreeSet<u32>,
    /// Last state of each client's online and offline times.
    online: BTreeMap<u32, Option<Sojourn>>,
    /// Last state of each client's device up and down times.
    running: BTreeMap<u32, Option<Sojourn>>,
}

impl Presence {
    /// Returns the state of `client` at `at`. Times of successive calls must not decrease.
    pub fn look(&mut self, federation: &Federation, seeds: &Seeds, client: u32, at: Time) -> Look {
        if self.departed.contains(&client) {
            return Look { is_up: true, is_reachable: false, until: None };
        }
        let entity = u64::from(client);
        let class = federation.availability(client);
        let online = if class.is_chain() {
            class.status(at, |purpose| seeds.stream(purpose, entity), self.online.entry(client).or_default())
        } else {
            class.status(at, |purpose| seeds.stream(purpose, entity), &mut None)
        };
        let running = match federation.device(client).crashes {
            None => Status { is_up: true, until: None },
            Some(crashes) => {
                let law =
                    Alternating { mean_up: crashes.mean_up, mean_down: crashes.mean_down, purpose: Purpose::Fault };
                let memo = self.running.entry(client).or_default();
                law.status_at(at, |purpose| seeds.stream(purpose, entity), false, memo)
            }
        };
        // All three must be up, and the first of their changes may change the whole.
        let region = region_status(federation, client, at);
        let until = [online, running, region].iter().filter_map(|status| status.until).min();
        Look { is_up: running.is_up, is_reachable: running.is_up && online.is_up && region.is_up, until }
    }

    /// Makes a client unreachable for good.
    pub fn depart(&mut self, client: u32) {
        self.departed.insert(client);
    }

    /// Clears the memoized alternations, after a change of seed.
    pub fn forget(&mut self) {
        self.online.clear();
        self.running.clear();
    }
}

/// Returns whether a client's region is connected, and the next time at which a cut of it begins or ends.
fn region_status(federation: &Federation, client: u32, at: Time) -> Status {
    let region = federation.clients[client as usize].region;
    let cuts = federation.region_cuts.iter().filter(|cut| cut.region == region);
    let mut is_up = true;
    let mut until: Option<Time> = None;
    for cut in cuts {
        is_up &= !(cut.from..cut.until).contains(&at);
        for change in [cut.from, cut.until] {
            if change > at && until.is_none_or(|earliest| change < earliest) {
                until = Some(change);
            }
        }
    }
    Status { is_up, until }
}
