//! How long the server waits and which updates count: a protocol is a policy that turns facts into acts.
//!
//! A protocol knows rounds, counts and uploads; it reads no clock but the `now` of a fact, draws nothing and touches no
//! network. So each one is a small state machine whose timelines can be worked out by hand.
//!
//! Who aggregates is an [`Aggregator`]: 0 is the server; tiers and edges have the numbers from 1.

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

/// The protocols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Rounds of a cohort, with over-selection and a deadline.
    Synchronous(Synchronous),
    /// Windows of fixed length; what arrives in one counts in it.
    SemiSynchronous(SemiSynchronous),
    /// A version whenever a buffer is full (FedBuff).
    Buffered(Buffered),
    /// A version for each update (FedAsync).
    Asynchronous(Asynchronous),
    /// Tiers of like speed, each synchronous in itself (FedAT).
    Tiered(Tiered),
    /// Edges that aggregate for their regions, and a server that merges them.
    Hierarchical(Hierarchical),
}

/// Who asks clients and aggregates their updates: 0 is the server, then tiers or edges.
pub(crate) type Aggregator = u32;

/// The server.
pub(crate) const SERVER: Aggregator = 0;

/// An update that has arrived and waits to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    /// Place of the task in the table of tasks.
    pub slot: u32,
    /// Who asked for it.
    pub aggregator: Aggregator,
    /// The round in which it was dispatched.
    pub round: u32,
    /// How many versions its aggregator had made when it was dispatched.
    pub generation: u32,
}

/// What a protocol is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Fact {
    /// It is time to dispatch.
    Opportunity { aggregator: Aggregator },
    /// As many tasks as this were dispatched for the last request.
    Sent { aggregator: Aggregator, tasks: u32 },
    /// An update arrived.
    Arrived(Upload),
    /// A task ended without an update.
    Lost { aggregator: Aggregator, round: u32 },
    /// The deadline of this round.
    Deadline { aggregator: Aggregator, round: u32 },
    /// An edge has received the server's model.
    EdgeReady { aggregator: Aggregator },
    /// The server has received an edge's model.
    EdgeArrived { aggregator: Aggregator },
    /// Nothing is left that could happen.
    Stalled,
}

/// What a protocol does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Opens a round.
    Open { aggregator: Aggregator, round: u32 },
    /// Selects clients and sends them work for this round; answered by [`Fact::Sent`].
    Recruit { aggregator: Aggregator, round: u32, wanted: u32 },
    /// Asks for a [`Fact::Deadline`].
    SetDeadline { aggregator: Aggregator, round: u32, at: Time },
    /// Ends all running tasks of this round with this outcome.
    Stop { aggregator: Aggregator, round: u32, outcome: Outcome },
    /// Ends a task that arrived and does not count.
    Reject { upload: Upload, outcome: Outcome },
    /// Makes a model version of these updates and closes the round, or closes it as failed.
    Close { aggregator: Aggregator, round: u32, result: Result<Vec<Upload>, Failure> },
    /// Makes a model version of the models of these edges and closes the server's round, or closes it as failed.
    Merge { round: u32, result: Result<Vec<Aggregator>, Failure> },
    /// Sends the server's model to an edge; answered by [`Fact::EdgeReady`].
    SendToEdge { aggregator: Aggregator },
    /// Sends an edge's model to the server; answered by [`Fact::EdgeArrived`].
    SendToServer { aggregator: Aggregator },
    /// Asks for a [`Fact::Opportunity`] after this time.
    Wake { aggregator: Aggregator, after: Span },
    /// The run is over; tasks that are left are cancelled.
    Finish,
}

/// A protocol's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ProtocolState {
    Synchronous(SynchronousState),
    SemiSynchronous(SemiSynchronousState),
    Buffered(BufferedState),
    Tiered(TieredState),
    Hierarchical(HierarchicalState),
}

impl ProtocolState {
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

    /// Takes note of `fact` at `now` and appends what follows from it to `acts`.
    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match self {
            ProtocolState::Synchronous(state) => state.react(now, fact, acts),
            ProtocolState::SemiSynchronous(state) => state.react(now, fact, acts),
            ProtocolState::Buffered(state) => state.react(now, fact, acts),
            ProtocolState::Tiered(state) => state.react(now, fact, acts),
            ProtocolState::Hierarchical(state) => state.react(now, fact, acts),
        }
    }

    /// Takes changed settings of the same protocol, in force from the next decision on; `false` for another protocol.
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
    /// How many aggregators there are, the server included.
    pub(crate) fn aggregators(&self) -> u32 {
        match self {
            Protocol::Tiered(policy) => policy.tiers + 1,
            Protocol::Hierarchical(policy) => policy.edges.len() as u32 + 1,
            _ => 1,
        }
    }
}
