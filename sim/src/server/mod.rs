//! Policies of the server: which clients it selects, how long it waits, and which updates form a model version.

mod discount;
pub(crate) mod protocol;
pub(crate) mod selection;

pub use discount::Discount;
pub use protocol::{
    Asynchronous, Buffered, EdgeLink, Hierarchical, Protocol, SemiSynchronous, Stragglers, Synchronous, Tiered,
};
pub use selection::{Mersenne, Oort, Selection, TaskReport, sample};

use crate::kernel::Span;
use serde::{Deserialize, Serialize};

/// Settings of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Number of rounds, failed ones included; at least 1.
    pub rounds: u32,
    /// Policy by which clients are selected.
    pub selection: Selection,
    /// Clients that can be selected.
    pub candidates: Candidates,
    /// Handling of clients whose device memory is too small.
    pub memory: MemoryPolicy,
    /// Policy of rounds: how long the server waits, and for which updates.
    pub protocol: Protocol,
    /// Time from the close of a round to the next dispatch: aggregation and evaluation.
    pub aggregation: Span,
    /// Time that the server trains by itself in each round, from its opening on. Zero under protocols other than
    /// synchronous rounds. The time of the aggregation begins at the round's close, or when this time is over, if that is
    /// later.
    pub training: Span,
    /// Time until the server tries again after a round that failed at once because no candidates were available; above
    /// zero.
    pub retry: Span,
}

/// Clients that can be selected. A client with a running task never can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Candidates {
    /// Clients that are online at the time of selection.
    #[default]
    Online,
    /// All clients: the server does not know which are online, and a task sent to an offline client ends as
    /// unreachable.
    Everyone,
}

/// Handling of clients whose device has too little memory for their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryPolicy {
    /// They are never selected.
    #[default]
    Ineligible,
    /// They are selected, download the model, and fail with an out-of-memory event when training begins.
    Fail,
}
