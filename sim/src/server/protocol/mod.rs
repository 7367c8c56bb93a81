//! How long the server waits and which updates count: a protocol is a policy that turns facts into acts.
//!
//! A protocol knows rounds, counts and uploads; it reads no clock but the `now` of a fact, draws nothing and touches no
//! network. So each one is a small state machine whose timelines can be worked out by hand.

mod synchronous;

use synchronous::SynchronousState;
pub use synchronous::{Stragglers, Synchronous};

use crate::kernel::{Span, Time};
use crate::record::{Failure, Outcome};
use serde::{Deserialize, Serialize};

/// The protocols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Rounds of a cohort, with over-selection and a deadline.
    Synchronous(Synchronous),
}

/// An update that has arrived and waits to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    /// Place of the task in the table of tasks.
    pub slot: u32,
    /// The round in which it was dispatched.
    pub round: u32,
}

/// What a protocol is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Fact {
    /// It is time to dispatch.
    Opportunity,
    /// As many tasks as this were dispatched for the last request.
    Sent(u32),
    /// An update arrived.
    Arrived(Upload),
    /// A task of this round ended without an update.
    Lost { round: u32 },
    /// The deadline of this round.
    Deadline { round: u32 },
    /// Nothing is left that could happen.
    Stalled,
}

/// What a protocol does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Opens a round.
    Open { round: u32 },
    /// Selects clients and sends them work for this round; answered by [`Fact::Sent`].
    Recruit { round: u32, wanted: u32 },
    /// Asks for a [`Fact::Deadline`].
    SetDeadline { round: u32, at: Time },
    /// Ends all running tasks of this round with this outcome.
    Stop { round: u32, outcome: Outcome },
    /// Ends a task that arrived and does not count.
    Reject { upload: Upload, outcome: Outcome },
    /// Makes a model version of these updates and closes the round, or closes it as failed.
    Close { round: u32, result: Result<Vec<Upload>, Failure> },
    /// Asks for a [`Fact::Opportunity`] after this time.
    Wake { after: Span },
    /// The run is over.
    Finish,
}

/// A protocol's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ProtocolState {
    Synchronous(SynchronousState),
}

impl ProtocolState {
    pub fn new(server: &super::Server) -> Self {
        match &server.protocol {
            Protocol::Synchronous(policy) => ProtocolState::Synchronous(SynchronousState::new(*policy, server)),
        }
    }

    /// Takes note of `fact` at `now` and appends what follows from it to `acts`.
    pub fn react(&mut self, now: Time, fact: Fact, acts: &mut Vec<Act>) {
        match self {
            ProtocolState::Synchronous(state) => state.react(now, fact, acts),
        }
    }
}
