//! Semi-synchronous rounds: windows of fixed length. An update that arrives in a window counts at its end, unless it is
//! staler than a bound. Clients that have not finished continue into the next window.

use super::{Act, Fact, SERVER, Upload};
use crate::kernel::{Span, Time};
use crate::record::{Failure, Outcome};
use crate::server::Server;
use serde::{Deserialize, Serialize};

/// Settings of semi-synchronous rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemiSynchronous {
    /// Length of a window, above zero.
    pub window: Span,
    /// Number of tasks in flight after a window opens; at least 1.
    pub concurrency: u32,
    /// Least number of updates that make a version; at least 1. With fewer, the updates are kept for a later window.
    pub minimum: u32,
    /// [version] -- Greatest staleness that counts.
    pub staleness_max: u32,
}

/// State of semi-synchronous rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SemiSynchronousState {
    pub policy: SemiSynchronous,
    rounds: u32,
    aggregation: Span,
    round: u32,
    generation: u32,
    outstanding: u32,
    arrived: Vec<Upload>,
    is_open: bool,
}

impl SemiSynchronousState {
    /// Returns the initial state.
    pub fn new(policy: SemiSynchronous, server: &Server) -> Self {
        Self {
            policy,
            rounds: server.rounds,
            aggregation: server.aggregation,
            round: 0,
            generation: 0,
            outstanding: 0,
            arrived: Vec::new(),
            is_open: false,
        }
    }

    /// Reacts to `fact` at `now`.
    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match fact {
            Fact::Opportunity { aggregator } => {
                let round = self.round;
                self.is_open = true;
                acts.push(Act::Open { aggregator, round });
                acts.push(Act::SetDeadline { aggregator, round, at: now.after(self.policy.window) });
                let wanted = self.policy.concurrency.saturating_sub(self.outstanding);
                if wanted > 0 {
                    acts.push(Act::Recruit { aggregator, round, wanted });
                }
            }
            Fact::Sent { tasks, .. } => self.outstanding += tasks,
            Fact::Arrived(upload) => {
                self.outstanding -= 1;
                self.arrived.push(upload);
            }
            Fact::Lost { .. } => self.outstanding -= 1,
            Fact::Deadline { .. } => self.close(Failure::TooFewInTime, acts),
            Fact::Stalled if self.is_open => self.close(Failure::Stalled, acts),
            _ => {}
        }
    }

    /// Closes the window: with a version if enough updates are fresh, else as failed with this reason.
    fn close(&mut self, failure: Failure, acts: &mut Vec<Act>) {
        let aggregator = SERVER;
        let round = self.round;
        let oldest = self.generation.saturating_sub(self.policy.staleness_max);
        let (fresh, stale): (Vec<Upload>, Vec<Upload>) =
            std::mem::take(&mut self.arrived).into_iter().partition(|upload| upload.generation >= oldest);
        for upload in stale {
            acts.push(Act::Reject { upload, outcome: Outcome::Stale });
        }
        let result = if fresh.len() >= self.policy.minimum as usize {
            self.generation += 1;
            Ok(fresh)
        } else {
            // Too few: they stay in the buffer and may count at the end of a later window.
            self.arrived = fresh;
            Err(failure)
        };
        acts.push(Act::Close { aggregator, round, result });
        self.round += 1;
        self.is_open = false;
        acts.push(match self.round == self.rounds {
            true => Act::Finish,
            false => Act::Wake { aggregator, after: self.aggregation },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::super::testing::{check, server, upload};
    use super::*;

    #[test]
    fn windows_close_on_time_and_tasks_work_on() {
        let policy = SemiSynchronous { window: Span(100), concurrency: 2, minimum: 1, staleness_max: 1 };
        let mut state = SemiSynchronousState::new(policy, &server(Protocol::SemiSynchronous(policy), 4));
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        let open = Fact::Opportunity { aggregator: 0 };
        let deadline = |round| Fact::Deadline { aggregator: 0, round };
        react(0, open, "open0 deadline@100 recruit2");
        react(0, Fact::Sent { aggregator: 0, tasks: 2 }, "");
        react(90, upload(0, 0, 0), "");
        react(100, deadline(0), "close1 wake+7");
        react(107, open, "open1 deadline@207 recruit1");
        react(107, Fact::Sent { aggregator: 0, tasks: 1 }, "");
        react(200, upload(2, 1, 1), "");
        react(207, deadline(1), "close1 wake+7");
        // The slow task of window 0 arrives two versions late: one more than is allowed.
        react(210, upload(1, 0, 0), "");
        react(307, deadline(2), "reject1:stale fail:too_few_in_time wake+7");
    }
}
