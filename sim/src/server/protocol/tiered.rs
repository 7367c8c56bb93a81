//! Tiered aggregation: clients of similar speed form tiers, and each tier runs synchronous rounds that update one
//! common model. Follows FedAT, Chai et al. (2021): synchronous within a tier, asynchronous across tiers.

use super::synchronous::{Stragglers, Synchronous, SynchronousState};
use super::{Act, Fact};
use crate::kernel::{Span, Time};
use crate::server::Server;
use serde::{Deserialize, Serialize};

/// Settings of tiered aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tiered {
    /// Number of tiers; at least 1. Clients are ranked by the nominal time of their task and divided into equal tiers,
    /// the fastest first.
    pub tiers: u32,
    /// Number of updates that a tier's round waits for; at least 1.
    pub cohort: u32,
    /// Time after which a tier's round closes with the updates that have arrived.
    pub deadline: Option<Span>,
    /// Least number of updates without which a tier's round fails; 1 to `cohort`.
    pub minimum: u32,
}

impl Tiered {
    /// Returns the settings of each tier's rounds.
    pub(crate) fn within(&self) -> Synchronous {
        let Tiered { cohort, deadline, minimum, .. } = *self;
        Synchronous { cohort, over_selection: 0, deadline, minimum, stragglers: Stragglers::Stop }
    }
}

/// State of tiered aggregation. The rounds of the server are those of all tiers together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TieredState {
    tiers: Vec<SynchronousState>,
    rounds_left: u32,
    has_begun: bool,
}

impl TieredState {
    /// Returns the initial state.
    pub fn new(policy: Tiered, server: &Server) -> Self {
        let mut tiers = Vec::new();
        for number in 1..=policy.tiers {
            // One round more than the server has, so that no tier finishes the run by itself: `count_closes` does.
            tiers.push(SynchronousState::new(policy.within(), number, server.rounds + 1, server));
        }
        Self { tiers, rounds_left: server.rounds, has_begun: false }
    }

    /// Reacts to `fact` at `now`.
    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match fact {
            Fact::Opportunity { aggregator: 0 } => {
                assert!(!std::mem::replace(&mut self.has_begun, true), "tiers begin once");
                for aggregator in 1..=self.tiers.len() as u32 {
                    acts.push(Act::Wake { aggregator, after: Span::ZERO });
                }
            }
            Fact::Stalled => {
                for tier in &mut self.tiers {
                    tier.react(now, fact, acts);
                }
            }
            Fact::Opportunity { aggregator }
            | Fact::Sent { aggregator, .. }
            | Fact::Lost { aggregator, .. }
            | Fact::Deadline { aggregator, .. } => self.tiers[aggregator as usize - 1].react(now, fact, acts),
            Fact::Arrived(upload) => self.tiers[upload.aggregator as usize - 1].react(now, fact, acts),
            Fact::EdgeReady { .. } | Fact::EdgeArrived { .. } => unreachable!("tiers have no edges"),
        }
        self.count_closes(acts);
    }

    /// Ends the run with the last round, and drops the actions of tiers after it.
    fn count_closes(&mut self, acts: &mut Vec<Act>) {
        for index in 0..acts.len() {
            if matches!(acts[index], Act::Close { .. }) {
                self.rounds_left -= 1;
                if self.rounds_left == 0 {
                    acts.truncate(index + 1);
                    acts.push(Act::Finish);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, server};
    use super::super::{Protocol, Upload};
    use super::*;

    #[test]
    fn each_tier_goes_its_own_pace() {
        let policy = Tiered { tiers: 2, cohort: 1, deadline: None, minimum: 1 };
        let mut state = TieredState::new(policy, &server(Protocol::Tiered(policy), 3));
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        let open = |aggregator| Fact::Opportunity { aggregator };
        let sent = |aggregator| Fact::Sent { aggregator, tasks: 1 };
        let arrived = |aggregator, round| Fact::Arrived(Upload { slot: 0, aggregator, round, generation: 0 });
        react(0, open(0), "wake+0[1] wake+0[2]");
        react(0, open(1), "open0[1] recruit1[1]");
        react(0, sent(1), "");
        react(0, open(2), "open0[2] recruit1[2]");
        react(0, sent(2), "");
        react(10, arrived(1, 0), "stop:cancelled[1] close1[1] wake+7[1]");
        react(17, open(1), "open1[1] recruit1[1]");
        react(17, sent(1), "");
        react(27, arrived(1, 1), "stop:cancelled[1] close1[1] wake+7[1]");
        react(30, arrived(2, 0), "stop:cancelled[2] close1[2] finish");
    }
}
