//! Synchronous rounds: the server selects a cohort and waits for enough of its updates, or until a deadline.
//!
//! Follows Bonawitz et al., "Towards federated learning at scale" (2019): more clients are selected than are needed
//! (over-selection), the first updates to arrive count, and a round with too few of them is abandoned.

use super::{Act, Aggregator, Fact, Upload};
use crate::kernel::{Span, Time};
use crate::record::{Failure, Outcome};
use crate::server::{Selection, Server};
use serde::{Deserialize, Serialize};

/// Settings of synchronous rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synchronous {
    /// Number of updates that a round waits for; at least 1. With Poisson selection, which decides the number of
    /// clients by itself, a round waits for all of them.
    pub cohort: u32,
    /// Number of clients selected in addition.
    pub over_selection: u32,
    /// Time after the opening of a round at which it closes with the updates that have arrived. An upload that ends at
    /// this very instant is in time.
    pub deadline: Option<Span>,
    /// Least number of updates without which a round fails; 1 to `cohort`.
    pub minimum: u32,
    /// Handling of tasks that still run when their round closes.
    pub stragglers: Stragglers,
}

/// Handling of tasks that still run when their round closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stragglers {
    /// They are stopped, as late if the deadline closed the round and as cancelled otherwise.
    #[default]
    Stop,
    /// They continue and keep their clients busy; their uploads are late.
    Finish,
}

/// State of the synchronous rounds of one aggregator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SynchronousState {
    pub policy: Synchronous,
    aggregator: Aggregator,
    rounds: u32,
    aggregation: Span,
    /// Time that the server trains by itself in each round.
    training: Span,
    retry: Span,
    /// Whether a round waits for all of its tasks, as with Poisson selection.
    waits_for_all: bool,
    round: u32,
    opened_at: Time,
    is_open: bool,
    /// Number of tasks of the round in flight.
    outstanding: u32,
    arrived: Vec<Upload>,
    /// Number of rounds that produced a version.
    pub succeeded: u32,
}

impl SynchronousState {
    /// Returns the initial state of an aggregator that runs `rounds` rounds.
    pub fn new(policy: Synchronous, aggregator: Aggregator, rounds: u32, server: &Server) -> Self {
        Self {
            policy,
            aggregator,
            rounds,
            aggregation: server.aggregation,
            training: server.training,
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

    /// Adds `rounds` rounds, and starts to count successful ones again.
    pub fn extend(&mut self, rounds: u32) {
        self.rounds += rounds;
        self.succeeded = 0;
    }

    /// Reacts to `fact` at `now`. Facts about a round that has closed have no effect.
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

    /// Opens a round and requests its cohort.
    fn open(&mut self, now: Time, acts: &mut Vec<Act>) {
        assert!(!self.is_open, "a round opens when the one before it has closed");
        self.is_open = true;
        self.opened_at = now;
        // Stragglers of earlier rounds may still run; they are not waited for.
        self.outstanding = 0;
        let aggregator = self.aggregator;
        let round = self.round;
        acts.push(Act::Open { aggregator, round });
        if let Some(deadline) = self.policy.deadline {
            acts.push(Act::SetDeadline { aggregator, round, at: now.after(deadline) });
        }
        let wanted = self.policy.cohort.saturating_add(self.policy.over_selection);
        acts.push(Act::Recruit { aggregator, round, wanted });
    }

    /// Accepts an update of the current round, and rejects others as late.
    fn arrive(&mut self, now: Time, upload: Upload, acts: &mut Vec<Act>) {
        if !self.is_current(upload.round) {
            acts.push(Act::Reject { upload, outcome: Outcome::Late });
            return;
        }
        self.outstanding -= 1;
        self.arrived.push(upload);
        self.close_if_complete(now, acts);
    }

    /// Closes the round if it has its cohort, or if none of its tasks is running.
    fn close_if_complete(&mut self, now: Time, acts: &mut Vec<Act>) {
        let has_cohort = !self.waits_for_all && self.arrived.len() >= self.policy.cohort as usize;
        if self.is_open && (has_cohort || self.outstanding == 0) {
            self.close(now, None, acts);
        }
    }

    /// Closes the round: with a version if enough updates arrived, else as failed. `cut_short` is the reason if the
    /// round was closed before its tasks ended.
    fn close(&mut self, now: Time, cut_short: Option<Failure>, acts: &mut Vec<Act>) {
        let aggregator = self.aggregator;
        let round = self.round;
        // Stop comes before Close, so that the tasks' records precede that of their round.
        if self.policy.stragglers == Stragglers::Stop {
            let outcome = if cut_short.is_some() { Outcome::Late } else { Outcome::Cancelled };
            acts.push(Act::Stop { aggregator, round, outcome });
        }
        let arrived = std::mem::take(&mut self.arrived);
        let result = if arrived.len() >= self.policy.minimum as usize {
            self.succeeded += 1;
            Ok(arrived)
        } else {
            for upload in arrived {
                acts.push(Act::Reject { upload, outcome: Outcome::Discarded });
            }
            Err(cut_short.unwrap_or(Failure::TooFewSurvived))
        };
        // A round that failed in no time would fail again at once, without end: it is retried after a longer wait.
        let is_failed = result.is_err();
        let failed_at_once = is_failed && now == self.opened_at;
        acts.push(Act::Close { aggregator, round, result });
        self.is_open = false;
        self.round += 1;
        if self.round == self.rounds {
            acts.push(Act::Finish);
        } else {
            let after = if failed_at_once { self.retry } else { self.time_to_next(now, is_failed) };
            acts.push(Act::Wake { aggregator, after });
        }
    }

    /// Returns the time from the close of a round at `now` to the next dispatch. A server whose round has failed does not need
    /// what it trains.
    fn time_to_next(&self, now: Time, is_failed: bool) -> Span {
        if is_failed {
            return self.aggregation;
        }
        let trained_at = self.opened_at.after(self.training).max(now);
        trained_at.after(self.aggregation).since(now)
    }

    /// Returns whether this is the open round.
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

    /// The server trains 50 ns from the opening of each round, and aggregates 7 ns after that.
    #[test]
    fn the_next_round_waits_for_the_training_of_the_server_unless_a_round_fails() {
        let mut state = state(2, 0, 2, 4);
        state.training = Span(50);
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        react(0, OPEN, "open0 deadline@100 recruit2");
        react(0, sent(2), "");
        react(10, upload(0, 0, 0), "");
        react(20, upload(1, 0, 0), "stop:cancelled close2 wake+37");
        react(57, OPEN, "open1 deadline@157 recruit2");
        react(57, sent(2), "");
        react(67, upload(0, 1, 1), "");
        react(127, upload(1, 1, 1), "stop:cancelled close2 wake+7");
        react(134, OPEN, "open2 deadline@234 recruit2");
        react(134, sent(2), "");
        react(140, Fact::Lost { aggregator: 0, round: 2 }, "");
        react(141, Fact::Lost { aggregator: 0, round: 2 }, "stop:cancelled fail:too_few_survived wake+7");
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
