//! Who can be reached: availability, crashes and cut regions together.

use crate::client::{Alternating, Sojourn, Status};
use crate::federation::Federation;
use crate::kernel::Time;
use crate::random::{Purpose, Seeds};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What can be said of a client at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether its device runs.
    pub is_up: bool,
    /// Whether its device runs and it can be reached.
    pub is_reachable: bool,
    /// When either may change; `None` if never.
    pub until: Option<Time>,
}

/// Who has left for good, and where random alternations were when last looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Presence {
    departed: BTreeSet<u32>,
    online: BTreeMap<u32, Option<Sojourn>>,
    running: BTreeMap<u32, Option<Sojourn>>,
}

impl Presence {
    /// The state of `client` at `at`, which never goes back.
    pub fn look(&mut self, federation: &Federation, seeds: &Seeds, client: u32, at: Time) -> Look {
        if self.departed.contains(&client) {
            return Look { is_up: true, is_reachable: false, until: None };
        }
        let stream = |purpose: Purpose| seeds.stream(purpose, u64::from(client));
        let class = federation.availability(client);
        let online = if class.is_chain() {
            class.status(at, stream, self.online.entry(client).or_default())
        } else {
            class.status(at, stream, &mut None)
        };
        let running = match federation.device(client).crashes {
            None => Status { is_up: true, until: None },
            Some(crashes) => {
                let law =
                    Alternating { mean_up: crashes.mean_up, mean_down: crashes.mean_down, purpose: Purpose::Fault };
                law.status_at(at, stream, false, self.running.entry(client).or_default())
            }
        };
        let region = region_status(federation, client, at);
        let until = [online, running, region].iter().filter_map(|status| status.until).min();
        Look { is_up: running.is_up, is_reachable: running.is_up && online.is_up && region.is_up, until }
    }

    /// Makes a client unreachable for good.
    pub fn depart(&mut self, client: u32) {
        self.departed.insert(client);
    }

    /// Forgets what was remembered of alternations, after a change of seed or of the federation.
    pub fn forget(&mut self) {
        self.online.clear();
        self.running.clear();
    }
}

fn region_status(federation: &Federation, client: u32, at: Time) -> Status {
    let region = federation.clients[client as usize].region;
    let cuts = federation.region_cuts.iter().filter(|cut| cut.region == region);
    let (mut is_up, mut until) = (true, None::<Time>);
    for cut in cuts {
        is_up &= !(cut.from..cut.until).contains(&at);
        let changes = [cut.from, cut.until].into_iter().filter(|change| *change > at);
        until = until.into_iter().chain(changes).min();
    }
    Status { is_up, until }
}
