//! Synchronous rounds: a cohort is asked, the server waits for enough of it, or until a deadline.
//!
//! Follows Bonawitz et al., "Towards federated learning at scale" (2019): more clients are asked than are needed
//! (over-selection), the first to arrive count, and a round with too few arrivals is abandoned.

use super::{Act, Fact, Upload};
use crate::kernel::{Span, Time};
use crate::record::{Failure, Outcome};
use crate::server::Server;
use serde::{Deserialize, Serialize};

/// The settings of synchronous rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synchronous {
    /// Updates that a round waits for -- at least 1.
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

/// Where the rounds are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SynchronousState {
    policy: Synchronous,
    rounds: u32,
    aggregation: Span,
    retry: Span,
    round: u32,
    opened_at: Time,
    is_open: bool,
    outstanding: u32,
    arrived: Vec<Upload>,
}

impl SynchronousState {
    pub fn new(policy: Synchronous, server: &Server) -> Self {
        Self {
            policy,
            rounds: server.rounds,
            aggregation: server.aggregation,
            retry: server.retry,
            round: 0,
            opened_at: Time::ZERO,
            is_open: false,
            outstanding: 0,
            arrived: Vec::new(),
        }
    }

    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match fact {
            Fact::Opportunity => self.open(now, acts),
            Fact::Sent(0) => self.close(now, Some(Failure::NoCandidates), acts),
            Fact::Sent(sent) => {
                self.outstanding += sent;
                self.close_if_complete(now, acts);
            }
            Fact::Arrived(upload) => self.arrive(now, upload, acts),
            Fact::Lost { round } if self.is_current(round) => {
                self.outstanding -= 1;
                self.close_if_complete(now, acts);
            }
            Fact::Deadline { round } if self.is_current(round) => {
                self.close(now, Some(Failure::TooFewInTime), acts);
            }
            Fact::Stalled if self.is_open => self.close(now, Some(Failure::Stalled), acts),
            Fact::Lost { .. } | Fact::Deadline { .. } | Fact::Stalled => {}
        }
    }

    fn open(&mut self, now: Time, acts: &mut Vec<Act>) {
        assert!(!self.is_open, "a round opens when the one before it has closed");
        (self.is_open, self.opened_at, self.outstanding) = (true, now, 0);
        let round = self.round;
        acts.push(Act::Open { round });
        if let Some(deadline) = self.policy.deadline {
            acts.push(Act::SetDeadline { round, at: now.after(deadline) });
        }
        acts.push(Act::Recruit { round, wanted: self.policy.cohort.saturating_add(self.policy.over_selection) });
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
        if self.is_open && (self.arrived.len() == self.policy.cohort as usize || self.outstanding == 0) {
            self.close(now, None, acts);
        }
    }

    /// Closes the round: with a version if enough updates arrived, else as failed, for the reason `cut_short` if the
    /// round was cut short.
    fn close(&mut self, now: Time, cut_short: Option<Failure>, acts: &mut Vec<Act>) {
        let round = self.round;
        if self.policy.stragglers == Stragglers::Stop {
            let outcome = if cut_short.is_some() { Outcome::Late } else { Outcome::Cancelled };
            acts.push(Act::Stop { round, outcome });
        }
        let arrived = std::mem::take(&mut self.arrived);
        let result = if arrived.len() >= self.policy.minimum as usize {
            Ok(arrived)
        } else {
            let rejected = arrived.into_iter().map(|upload| Act::Reject { upload, outcome: Outcome::Discarded });
            acts.extend(rejected);
            Err(cut_short.unwrap_or(Failure::TooFewSurvived))
        };
        let failed_at_once = result.is_err() && now == self.opened_at;
        acts.push(Act::Close { round, result });
        self.is_open = false;
        self.round += 1;
        if self.round == self.rounds {
            acts.push(Act::Finish);
        } else {
            acts.push(Act::Wake { after: if failed_at_once { self.retry } else { self.aggregation } });
        }
    }

    fn is_current(&self, round: u32) -> bool {
        self.is_open && round == self.round
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Candidates, MemoryPolicy, Protocol, Selection};

    fn state(cohort: u32, over_selection: u32, minimum: u32, rounds: u32) -> SynchronousState {
        let deadline = Some(Span(100));
        let policy = Synchronous { cohort, over_selection, deadline, minimum, stragglers: Stragglers::Stop };
        let server = Server {
            rounds,
            selection: Selection::Uniform,
            candidates: Candidates::Online,
            memory: MemoryPolicy::Ineligible,
            protocol: Protocol::Synchronous(policy),
            aggregation: Span(7),
            retry: Span(60),
        };
        SynchronousState::new(policy, &server)
    }

    fn check(state: &mut SynchronousState, at: u64, fact: Fact, expected: &str) {
        let mut acts = Vec::new();
        state.react(Time(at), fact, &mut acts);
        let text: Vec<String> = acts.iter().map(brief).collect();
        assert_eq!(text.join(" "), expected, "at {at}: {fact:?}");
    }

    fn brief(act: &Act) -> String {
        match act {
            Act::Open { round } => format!("open{round}"),
            Act::Recruit { wanted, .. } => format!("recruit{wanted}"),
            Act::SetDeadline { at, .. } => format!("deadline@{}", at.0),
            Act::Stop { outcome, .. } => format!("stop:{}", outcome.name()),
            Act::Reject { upload, outcome } => format!("reject{}:{}", upload.slot, outcome.name()),
            Act::Close { result: Ok(counted), .. } => format!("close{}", counted.len()),
            Act::Close { result: Err(reason), .. } => format!("fail:{}", reason.name()),
            Act::Wake { after } => format!("wake+{}", after.0),
            Act::Finish => "finish".into(),
        }
    }

    fn upload(slot: u32, round: u32) -> Fact {
        Fact::Arrived(Upload { slot, round })
    }

    #[test]
    fn the_first_to_arrive_count_and_the_rest_is_cancelled() {
        let mut state = state(2, 1, 1, 2);
        check(&mut state, 0, Fact::Opportunity, "open0 deadline@100 recruit3");
        check(&mut state, 0, Fact::Sent(3), "");
        check(&mut state, 10, upload(0, 0), "");
        check(&mut state, 20, upload(2, 0), "stop:cancelled close2 wake+7");
        check(&mut state, 27, Fact::Opportunity, "open1 deadline@127 recruit3");
    }

    #[test]
    fn the_deadline_closes_with_what_is_there() {
        let mut state = state(2, 0, 1, 2);
        check(&mut state, 0, Fact::Opportunity, "open0 deadline@100 recruit2");
        check(&mut state, 0, Fact::Sent(2), "");
        check(&mut state, 100, upload(0, 0), "");
        check(&mut state, 100, Fact::Deadline { round: 0 }, "stop:late close1 wake+7");
        check(&mut state, 107, upload(1, 0), "reject1:late");
    }

    #[test]
    fn too_few_arrivals_fail_the_round_and_the_run_goes_on() {
        let mut state = state(3, 0, 2, 2);
        check(&mut state, 0, Fact::Opportunity, "open0 deadline@100 recruit3");
        check(&mut state, 0, Fact::Sent(3), "");
        check(&mut state, 5, upload(0, 0), "");
        check(&mut state, 6, Fact::Lost { round: 0 }, "");
        check(&mut state, 7, Fact::Lost { round: 0 }, "stop:cancelled reject0:discarded fail:too_few_survived wake+7");
        check(&mut state, 14, Fact::Opportunity, "open1 deadline@114 recruit3");
        check(&mut state, 14, Fact::Sent(0), "stop:late fail:no_candidates finish");
    }
}
