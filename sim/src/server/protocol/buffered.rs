//! Buffered asynchronous aggregation: a constant number of tasks runs at any time, and a full buffer of updates becomes
//! a model version.
//!
//! FedBuff: Nguyen et al., "Federated learning with buffered asynchronous aggregation" (2022). With a buffer of one it
//! is FedAsync: Xie et al., "Asynchronous federated optimization" (2019). The staleness discount is part of the
//! aggregation, which reads the staleness from the records; [`Discount`](crate::server::Discount) computes common ones.

use super::{Act, Fact, SERVER, Upload};
use crate::kernel::{Span, Time};
use crate::record::{Failure, Outcome};
use crate::server::Server;
use serde::{Deserialize, Serialize};

/// Settings of buffered aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffered {
    /// Number of tasks in flight; at least 1.
    pub concurrency: u32,
    /// Number of updates per version; at least 1.
    pub buffer: u32,
    /// [version] -- Greatest staleness that counts; `None` accepts any.
    pub staleness_max: Option<u32>,
    /// Number of tasks lost or too stale since the last version at which the round fails; at least 1. Without it, a
    /// federation in which every client drops out would never end.
    pub losses_max: u32,
}

/// Settings of fully asynchronous aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asynchronous {
    /// Number of tasks in flight; at least 1.
    pub concurrency: u32,
    /// [version] -- Greatest staleness that counts; `None` accepts any.
    pub staleness_max: Option<u32>,
    /// Number of losses at which the round fails, as in [`Buffered`].
    pub losses_max: u32,
}

impl Asynchronous {
    /// Returns the equivalent buffered settings.
    pub(super) fn as_buffer_of_one(self) -> Buffered {
        let Asynchronous { concurrency, staleness_max, losses_max } = self;
        Buffered { concurrency, buffer: 1, staleness_max, losses_max }
    }
}

/// State of buffered aggregation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BufferedState {
    pub policy: Buffered,
    rounds: u32,
    aggregation: Span,
    retry: Span,
    round: u32,
    /// Number of versions made.
    generation: u32,
    /// Number of tasks in flight.
    outstanding: u32,
    /// Number of clients asked for by the last request.
    wanted: u32,
    /// Number of tasks lost or too stale since the last close.
    losses: u32,
    arrived: Vec<Upload>,
    /// Earliest wake-up that was requested and is still pending.
    wake_at: Option<Time>,
    /// End of the current aggregation, during which the server dispatches nothing.
    busy_until: Time,
    is_open: bool,
}

impl BufferedState {
    /// Returns the initial state.
    pub fn new(policy: Buffered, server: &Server) -> Self {
        Self {
            policy,
            rounds: server.rounds,
            aggregation: server.aggregation,
            retry: server.retry,
            round: 0,
            generation: 0,
            outstanding: 0,
            wanted: 0,
            losses: 0,
            arrived: Vec::new(),
            wake_at: None,
            busy_until: Time::ZERO,
            is_open: false,
        }
    }

    /// Reacts to `fact` at `now`.
    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match fact {
            Fact::Opportunity { .. } => self.refill(now, acts),
            Fact::Sent { tasks, .. } => self.take_on(now, tasks, acts),
            Fact::Arrived(upload) => self.arrive(now, upload, acts),
            Fact::Lost { .. } => {
                self.outstanding -= 1;
                self.lose(now, acts);
            }
            Fact::Stalled => self.close(now, Err(Failure::Stalled), acts),
            _ => {}
        }
    }

    /// Returns how many of `count` updates that are kept back should arrive now so that they enter one buffer: all if it has
    /// room for them; as many as it has room for if it is empty, or if no other task is in flight or about to be
    /// dispatched; else none.
    pub fn places_together(&self, now: Time, count: u32) -> u32 {
        if !self.is_open {
            return 0;
        }
        let filled = self.arrived.len() as u32;
        let room = self.policy.buffer.saturating_sub(filled);
        // A wake-up at this instant may dispatch tasks that fill the buffer. One that tries again later may find nobody for
        // ever.
        let may_dispatch = self.wake_at.is_some_and(|at| at <= now);
        let is_alone = self.outstanding == count && !may_dispatch;
        if count > room && filled > 0 && !is_alone {
            return 0;
        }
        // A buffer that was made smaller than its content has no room, and the next arrival closes it.
        count.min(room.max(1))
    }

    /// Opens a round if none is open, and requests clients up to the concurrency.
    fn refill(&mut self, now: Time, acts: &mut Vec<Act>) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
        }
        if now < self.busy_until {
            return self.wake(now, self.busy_until.since(now), acts);
        }
        let aggregator = SERVER;
        let round = self.round;
        if !self.is_open {
            self.is_open = true;
            acts.push(Act::Open { aggregator, round });
            self.reject_stale(acts);
            // Updates that came during the aggregation may make the next version already.
            if self.close_if_due(now, acts) {
                return;
            }
        }
        self.wanted = self.policy.concurrency.saturating_sub(self.outstanding);
        if self.wanted > 0 {
            acts.push(Act::Recruit { aggregator, round, wanted: self.wanted });
        }
    }

    /// Counts the tasks that were dispatched, and tries again later if they are fewer than requested.
    fn take_on(&mut self, now: Time, tasks: u32, acts: &mut Vec<Act>) {
        self.outstanding += tasks;
        if self.outstanding == 0 {
            self.close(now, Err(Failure::NoCandidates), acts);
        } else if tasks < self.wanted {
            self.wake(now, self.retry, acts);
        }
    }

    /// Adds an update to the buffer unless it is too stale, and closes the round if the buffer is full. While the server
    /// aggregates, updates wait in the buffer.
    fn arrive(&mut self, now: Time, upload: Upload, acts: &mut Vec<Act>) {
        self.outstanding -= 1;
        self.arrived.push(upload);
        self.reject_stale(acts);
        self.settle(now, acts);
    }

    /// Counts a lost task, and fails the round if there are too many.
    fn lose(&mut self, now: Time, acts: &mut Vec<Act>) {
        self.losses += 1;
        self.settle(now, acts);
    }

    /// Removes what is too stale for the next version from the buffer. It counts as lost.
    fn reject_stale(&mut self, acts: &mut Vec<Act>) {
        let Some(max) = self.policy.staleness_max else { return };
        let generation = self.generation;
        for upload in self.arrived.extract_if(.., |upload| generation - upload.generation > max) {
            self.losses += 1;
            acts.push(Act::Reject { upload, outcome: Outcome::Stale });
        }
    }

    /// Closes an open round that is due, or else has its free places filled. What comes while no round is open waits for the
    /// wake-up that opens the next one.
    fn settle(&mut self, now: Time, acts: &mut Vec<Act>) {
        if self.is_open && !self.close_if_due(now, acts) {
            self.wake(now, Span::ZERO, acts);
        }
    }

    /// Closes the open round if the buffer is full or too many tasks were lost, and returns whether it did.
    fn close_if_due(&mut self, now: Time, acts: &mut Vec<Act>) -> bool {
        let buffer = self.policy.buffer as usize;
        if self.arrived.len() >= buffer {
            // Of more than a buffer, the first to arrive make this version.
            let full = self.arrived.drain(..buffer).collect();
            self.close(now, Ok(full), acts);
        } else if self.losses >= self.policy.losses_max {
            self.close(now, Err(Failure::TooFewSurvived), acts);
        } else {
            return false;
        }
        true
    }

    /// Closes the round and schedules the next one. Tasks in flight continue into it.
    fn close(&mut self, now: Time, result: Result<Vec<Upload>, Failure>, acts: &mut Vec<Act>) {
        let aggregator = SERVER;
        let round = self.round;
        let after = match &result {
            Ok(_) => self.aggregation,
            Err(Failure::NoCandidates) => self.retry,
            Err(_) => Span::ZERO,
        };
        self.generation += u32::from(result.is_ok());
        acts.push(Act::Close { aggregator, round, result });
        self.round += 1;
        self.losses = 0;
        self.is_open = false;
        if self.round >= self.rounds {
            acts.push(Act::Finish);
        } else {
            self.busy_until = now.after(after);
            self.wake(now, after, acts);
        }
    }

    /// Requests a wake-up, unless one is pending that comes no later: many arrivals at one instant need only one.
    fn wake(&mut self, now: Time, after: Span, acts: &mut Vec<Act>) {
        let at = now.after(after);
        if self.wake_at.is_none_or(|pending| at < pending) {
            self.wake_at = Some(at);
            acts.push(Act::Wake { aggregator: SERVER, after });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::super::testing::{check, server, upload};
    use super::*;

    fn state(policy: Buffered) -> BufferedState {
        BufferedState::new(policy, &server(Protocol::Buffered(policy), 3))
    }

    const WAKE: Fact = Fact::Opportunity { aggregator: 0 };

    fn sent(tasks: u32) -> Fact {
        Fact::Sent { aggregator: 0, tasks }
    }

    #[test]
    fn a_full_buffer_is_a_version_and_free_places_are_filled() {
        let mut state = state(Buffered { concurrency: 3, buffer: 2, staleness_max: Some(1), losses_max: 9 });
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        react(0, WAKE, "open0 recruit3");
        react(0, sent(3), "");
        react(10, upload(0, 0, 0), "wake+0");
        react(10, WAKE, "recruit1");
        react(10, sent(1), "");
        react(20, upload(1, 0, 0), "close2 wake+7");
        react(27, WAKE, "open1 recruit1");
        react(27, sent(1), "");
    }

    #[test]
    fn updates_that_come_during_an_aggregation_wait_for_its_end() {
        let policy = Buffered { concurrency: 4, buffer: 1, staleness_max: Some(1), losses_max: 9 };
        let mut state = state(policy);
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        react(0, WAKE, "open0 recruit4");
        react(0, sent(4), "");
        // The server aggregates for 7 after each version. Two further updates come at the same instant, one later.
        react(10, upload(0, 0, 0), "close1 wake+7");
        react(10, upload(1, 0, 0), "");
        react(10, upload(2, 0, 0), "");
        react(12, upload(3, 0, 0), "");
        // The first of them makes the next version at the earliest time; then the other two are two versions behind.
        react(17, WAKE, "open1 close1 wake+7");
        react(24, WAKE, "open2 reject2:stale reject3:stale recruit4");
    }

    #[test]
    fn losses_during_an_aggregation_count_when_it_has_ended() {
        let mut state = state(Buffered { concurrency: 3, buffer: 1, staleness_max: None, losses_max: 2 });
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        react(0, WAKE, "open0 recruit3");
        react(0, sent(3), "");
        react(10, upload(0, 0, 0), "close1 wake+7");
        react(11, Fact::Lost { aggregator: 0, round: 0 }, "");
        react(12, Fact::Lost { aggregator: 0, round: 0 }, "");
        react(17, WAKE, "open1 fail:too_few_survived wake+0");
    }

    #[test]
    fn two_arrivals_at_one_instant_need_one_opportunity() {
        let mut state = state(Buffered { concurrency: 3, buffer: 9, staleness_max: None, losses_max: 9 });
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        react(0, WAKE, "open0 recruit3");
        react(0, sent(3), "");
        react(10, upload(0, 0, 0), "wake+0");
        react(10, upload(1, 0, 0), "");
        react(10, WAKE, "recruit2");
    }

    #[test]
    fn what_is_too_stale_does_not_count_and_losses_end_a_round() {
        let mut state = state(Buffered { concurrency: 1, buffer: 1, staleness_max: Some(0), losses_max: 2 });
        let mut react = |at, fact, expected| check(|now, fact, acts| state.react(now, fact, acts), at, fact, expected);
        react(0, WAKE, "open0 recruit1");
        react(0, sent(1), "");
        react(5, upload(0, 0, 0), "close1 wake+7");
        react(12, WAKE, "open1 recruit1");
        react(12, sent(1), "");
        react(15, upload(1, 0, 0), "reject1:stale wake+0");
        react(15, WAKE, "recruit1");
        react(15, sent(1), "");
        react(16, Fact::Lost { aggregator: 0, round: 1 }, "fail:too_few_survived wake+0");
        react(16, WAKE, "open2 recruit1");
        react(16, sent(0), "fail:no_candidates finish");
    }
}
