//! Synchronous rounds: a cohort is asked, the server waits for enough of it, or until a deadline.
//!
//! Follows Bonawitz et al., "Towards federated learning at scale" (2019): more clients are asked than are needed
//! (over-selection), the first to arrive count, and a round with too few arrivals is abandoned.

use super::{Act, Aggregator, Fact, Upload};
use crate::kernel::{Span, Time};
use crate::record::{Failure, Outcome};
use crate::server::{Selection, Server};
use serde::{Deserialize, Serialize};

/// The settings of synchronous rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synchronous {
    /// Updates that a round waits for -- at least 1. Poisson selection decides by itself how many it asks, and the
    /// round waits for all of them.
    pub cohort: u32,
    /// Clients asked in addition.
    pub over_selection: u32,
    /// Time from the opening of a round after which it closes with what has arrived; an upload that ends at this very
    /// instant is in time.
    pub deadline: Option<Span>,
    /// Updates without which a round fails -- 1 to `cohort`.
    pub minimum: u32,
    /// What becomes of tasks that run when their round closes.
    pub stragglers: Stragglers,
}

/// What becomes of tasks that still run when their round closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stragglers {
    /// They are stopped: as late if the deadline closed the round, as cancelled otherwise.
    #[default]
    Stop,
    /// They run on, busy clients meanwhile, and their uploads are late.
    Finish,
}

/// Where the rounds of one aggregator are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SynchronousState {
    pub policy: Synchronous,
    aggregator: Aggregator,
    rounds: u32,
    aggregation: Span,
    retry: Span,
    waits_for_all: bool,
    round: u32,
    opened_at: Time,
    is_open: bool,
    outstanding: u32,
    arrived: Vec<Upload>,
    /// Rounds that produced a version.
    pub succeeded: u32,
}

impl SynchronousState {
    pub fn new(policy: Synchronous, aggregator: Aggregator, rounds: u32, server: &Server) -> Self {
        Self {
            policy,
            aggregator,
            rounds,
            aggregation: server.aggregation,
            retry: server.retry,
            waits_for_all: matches!(server.selection, Selection::Poisson { .. }),
            round: 0,
            opened_at: Time::ZERO,
            is_open: false,
            outstanding: 0,
            arrived: Vec::new(),
            succeeded: 0,
        }
    }

    /// Asks for `rounds` more.
    pub fn extend(&mut self, rounds: u32) {
        self.rounds += rounds;
        self.succeeded = 0;
    }

    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match fact {
            Fact::Opportunity { .. } => self.open(now, acts),
            Fact::Sent { tasks: 0, .. } => self.close(now, Some(Failure::NoCandidates), acts),
            Fact::Sent { tasks, .. } => {
                self.outstanding += tasks;
                self.close_if_complete(now, acts);
            }
            Fact::Arrived(upload) => self.arrive(now, upload, acts),
            Fact::Lost { round, .. } if self.is_current(round) => {
                self.outstanding -= 1;
                self.close_if_complete(now, acts);
            }
            Fact::Deadline { round, .. } if self.is_current(round) => {
                self.close(now, Some(Failure::TooFewInTime), acts);
            }
            Fact::Stalled if self.is_open => self.close(now, Some(Failure::Stalled), acts),
            _ => {}
        }
    }

    fn open(&mut self, now: Time, acts: &mut Vec<Act>) {
        assert!(!self.is_open, "a round opens when the one before it has closed");
        (self.is_open, self.opened_at, self.outstanding) = (true, now, 0);
        let (aggregator, round) = (self.aggregator, self.round);
        acts.push(Act::Open { aggregator, round });
        if let Some(deadline) = self.policy.deadline {
            acts.push(Act::SetDeadline { aggregator, round, at: now.after(deadline) });
        }
        let wanted = self.policy.cohort.saturating_add(self.policy.over_selection);
        acts.push(Act::Recruit { aggregator, round, wanted });
    }

    fn arrive(&mut self, now: Time, upload: Upload, acts: &mut Vec<Act>) {
        if !self.is_current(upload.round) {
            acts.push(Act::Reject { upload, outcome: Outcome::Late });
            return;
        }
        self.outstanding -= 1;
        self.arrived.push(upload);
        self.close_if_complete(now, acts);
    }

    fn close_if_complete(&mut self, now: Time, acts: &mut Vec<Act>) {
        let has_cohort = !self.waits_for_all && self.arrived.len() >= self.policy.cohort as usize;
        if self.is_open && (has_cohort || self.outstanding == 0) {
            self.close(now, None, acts);
        }
    }

    /// Closes the round: with a version if enough updates arrived, else as failed, for the reason `cut_short` if the
    /// round was cut short.
    fn close(&mut self, now: Time, cut_short: Option<Failure>, acts: &mut Vec<Act>) {
        let (aggregator, round) = (self.aggregator, self.round);
        if self.policy.stragglers == Stragglers::Stop {
            let outcome = if cut_short.is_some() { Outcome::Late } else { Outcome::Cancelled };
            acts.push(Act::Stop { aggregator, round, outcome });
        }
        let arrived = std::mem::take(&mut self.arrived);
        let result = if arrived.len() >= self.policy.minimum as usize {
            self.succeeded += 1;
            Ok(arrived)
        } else {
            let rejected = arrived.into_iter().map(|upload| Act::Reject { upload, outcome: Outcome::Discarded });
            acts.extend(rejected);
            Err(cut_short.unwrap_or(Failure::TooFewSurvived))
        };
        let failed_at_once = result.is_err() && now == self.opened_at;
        acts.push(Act::Close { aggregator, round, result });
        self.is_open = false;
        self.round += 1;
        if self.round == self.rounds {
            acts.push(Act::Finish);
        } else {
            let after = if failed_at_once { self.retry } else { self.aggregation };
            acts.push(Act::Wake { aggregator, after });
        }
    }

    fn is_current(&self, round: u32) -> bool {
        self.is_open && round == self.round
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, server, upload};
    use super::*;

    fn state(cohort: u32, over_selection: u32, minimum: u32, rounds: u32) -> SynchronousState {
        let deadline = Some(Span(100));
        let policy = Synchronous { cohort, over_selection, deadline, minimum, stragglers: Stragglers::Stop };
        SynchronousState::new(policy, 0, rounds, &server(super::super::Protocol::Synchronous(policy), rounds))
    }

    const OPEN: Fact = Fact::Opportunity { aggregator: 0 };

    fn sent(tasks: u32) -> Fact {
        Fact::Sent { aggregator: 0, tasks }
    }

    #[test]
    fn the_first_to_arrive_count_and_the_rest_is_cancelled() {
        let mut state = state(2, 1, 1, 2);
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        react(0, OPEN, "open0 deadline@100 recruit3");
        react(0, sent(3), "");
        react(10, upload(0, 0, 0), "");
        react(20, upload(2, 0, 0), "stop:cancelled close2 wake+7");
        react(27, OPEN, "open1 deadline@127 recruit3");
    }

    #[test]
    fn the_deadline_closes_with_what_is_there() {
        let mut state = state(2, 0, 1, 2);
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        react(0, OPEN, "open0 deadline@100 recruit2");
        react(0, sent(2), "");
        react(100, upload(0, 0, 0), "");
        react(100, Fact::Deadline { aggregator: 0, round: 0 }, "stop:late close1 wake+7");
        react(107, upload(1, 0, 0), "reject1:late");
    }

    #[test]
    fn too_few_arrivals_fail_the_round_and_the_run_goes_on() {
        let mut state = state(3, 0, 2, 2);
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        let lost = Fact::Lost { aggregator: 0, round: 0 };
        react(0, OPEN, "open0 deadline@100 recruit3");
        react(0, sent(3), "");
        react(5, upload(0, 0, 0), "");
        react(6, lost, "");
        react(7, lost, "stop:cancelled reject0:discarded fail:too_few_survived wake+7");
        react(14, OPEN, "open1 deadline@114 recruit3");
        react(14, sent(0), "stop:late fail:no_candidates finish");
    }
}
