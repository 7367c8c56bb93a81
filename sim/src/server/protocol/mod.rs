//! Protocols: how long the server waits, and which updates count. A protocol is a state machine that turns events
//! (facts) into actions (acts).
//!
//! A protocol knows about rounds, counts and uploads. It reads no clock other than the `now` of a fact, draws no random
//! numbers and does not touch the network, so the timelines of each protocol can be computed by hand.
//!
//! An [`Aggregator`] is the server (0), or a tier or edge (numbered from 1).

mod buffered;
mod hierarchical;
mod semi_synchronous;
mod synchronous;
#[cfg(test)]
mod testing;
mod tiered;

pub use buffered::{Asynchronous, Buffered};
pub use hierarchical::{EdgeLink, Hierarchical};
pub use semi_synchronous::SemiSynchronous;
pub use synchronous::{Stragglers, Synchronous};
pub use tiered::Tiered;

use super::Server;
use crate::kernel::{Span, Time};
use crate::record::{Failure, Outcome};
use buffered::BufferedState;
use hierarchical::HierarchicalState;
use semi_synchronous::SemiSynchronousState;
use serde::{Deserialize, Serialize};
use synchronous::SynchronousState;
use tiered::TieredState;

/// A protocol with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Rounds with a cohort, over-selection and a deadline.
    Synchronous(Synchronous),
    /// Windows of fixed length; an update counts in the window in which it arrives.
    SemiSynchronous(SemiSynchronous),
    /// A version whenever a buffer is full (FedBuff).
    Buffered(Buffered),
    /// A version for each update (FedAsync).
    Asynchronous(Asynchronous),
    /// Tiers of clients of similar speed, each synchronous in itself (FedAT).
    Tiered(Tiered),
    /// Edges that aggregate for their regions, and a server that merges their models.
    Hierarchical(Hierarchical),
}

/// Number of the party that selects clients and aggregates their updates: 0 for the server, then tiers or edges.
pub(crate) type Aggregator = u32;

/// The server as an aggregator.
pub(crate) const SERVER: Aggregator = 0;

/// An update that has arrived and is waiting to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    /// Slot of its task.
    pub slot: u32,
    /// Aggregator that dispatched the task.
    pub aggregator: Aggregator,
    /// Round in which the task was dispatched.
    pub round: u32,
    /// Number of versions that its aggregator had made when the task was dispatched.
    pub generation: u32,
}

/// An event that a protocol reacts to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Fact {
    /// The aggregator may dispatch now.
    Opportunity { aggregator: Aggregator },
    /// `tasks` tasks were dispatched for the last request.
    Sent { aggregator: Aggregator, tasks: u32 },
    /// An update arrived.
    Arrived(Upload),
    /// A task ended without an update.
    Lost { aggregator: Aggregator, round: u32 },
    /// The deadline of this round passed.
    Deadline { aggregator: Aggregator, round: u32 },
    /// An edge has received the server's model.
    EdgeReady { aggregator: Aggregator },
    /// The server has received an edge's model.
    EdgeArrived { aggregator: Aggregator },
    /// No events are pending any more.
    Stalled,
}

/// An action that a protocol takes.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Opens a round.
    Open { aggregator: Aggregator, round: u32 },
    /// Selects `wanted` clients and sends them tasks of this round; answered by [`Fact::Sent`].
    Recruit { aggregator: Aggregator, round: u32, wanted: u32 },
    /// Requests a [`Fact::Deadline`] at this time.
    SetDeadline { aggregator: Aggregator, round: u32, at: Time },
    /// Ends all running tasks of this round with this outcome.
    Stop { aggregator: Aggregator, round: u32, outcome: Outcome },
    /// Ends a task whose update arrived but does not count.
    Reject { upload: Upload, outcome: Outcome },
    /// Makes a model version of these updates and closes the round, or closes it as failed.
    Close { aggregator: Aggregator, round: u32, result: Result<Vec<Upload>, Failure> },
    /// Makes a model version of the models of these edges and closes the server's round, or closes it as failed.
    Merge { round: u32, result: Result<Vec<Aggregator>, Failure> },
    /// Sends the server's model to an edge; answered by [`Fact::EdgeReady`].
    SendToEdge { aggregator: Aggregator },
    /// Sends an edge's model to the server; answered by [`Fact::EdgeArrived`].
    SendToServer { aggregator: Aggregator },
    /// Requests a [`Fact::Opportunity`] after this time.
    Wake { aggregator: Aggregator, after: Span },
    /// Ends the run; remaining tasks are cancelled.
    Finish,
}

/// State of a protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ProtocolState {
    Synchronous(SynchronousState),
    SemiSynchronous(SemiSynchronousState),
    Buffered(BufferedState),
    Tiered(TieredState),
    Hierarchical(HierarchicalState),
}

impl ProtocolState {
    /// Returns the initial state of the server's protocol.
    pub fn new(server: &Server) -> Self {
        match &server.protocol {
            Protocol::Synchronous(policy) => {
                ProtocolState::Synchronous(SynchronousState::new(*policy, SERVER, server.rounds, server))
            }
            Protocol::SemiSynchronous(policy) => {
                ProtocolState::SemiSynchronous(SemiSynchronousState::new(*policy, server))
            }
            Protocol::Buffered(policy) => ProtocolState::Buffered(BufferedState::new(*policy, server)),
            Protocol::Asynchronous(policy) => {
                ProtocolState::Buffered(BufferedState::new(policy.as_buffer_of_one(), server))
            }
            Protocol::Tiered(policy) => ProtocolState::Tiered(TieredState::new(*policy, server)),
            Protocol::Hierarchical(policy) => ProtocolState::Hierarchical(HierarchicalState::new(policy, server)),
        }
    }

    /// Reacts to `fact` at `now` and appends the resulting actions to `acts`.
    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match self {
            ProtocolState::Synchronous(state) => state.react(now, fact, acts),
            ProtocolState::SemiSynchronous(state) => state.react(now, fact, acts),
            ProtocolState::Buffered(state) => state.react(now, fact, acts),
            ProtocolState::Tiered(state) => state.react(now, fact, acts),
            ProtocolState::Hierarchical(state) => state.react(now, fact, acts),
        }
    }

    /// Returns how many of `count` updates that are kept back should arrive now so that they enter one buffer.
    pub fn places_together(&self, now: Time, count: u32) -> u32 {
        match self {
            ProtocolState::Buffered(state) => state.places_together(now, count),
            protocol => unreachable!("{protocol:?} has no buffer to collude in"),
        }
    }

    /// Replaces the settings from the next decision on. Returns `false`, and changes nothing, if `protocol` is of
    /// another kind or its settings cannot be changed during a run.
    pub fn reconfigure(&mut self, protocol: &Protocol) -> bool {
        match (self, protocol) {
            (ProtocolState::Synchronous(state), Protocol::Synchronous(policy)) => state.policy = *policy,
            (ProtocolState::SemiSynchronous(state), Protocol::SemiSynchronous(policy)) => state.policy = *policy,
            (ProtocolState::Buffered(state), Protocol::Buffered(policy)) => state.policy = *policy,
            (ProtocolState::Buffered(state), Protocol::Asynchronous(policy)) => {
                state.policy = policy.as_buffer_of_one();
            }
            _ => return false,
        }
        true
    }
}

impl Protocol {
    /// Returns the number of aggregators, including the server.
    pub(crate) fn aggregators(&self) -> u32 {
        match self {
            Protocol::Tiered(policy) => policy.tiers + 1,
            Protocol::Hierarchical(policy) => policy.edges.len() as u32 + 1,
            _ => 1,
        }
    }
}
