//! What the server decides: whom it asks, how long it waits, and which updates make a model version.

mod discount;
pub(crate) mod protocol;
mod report;
pub(crate) mod selection;

pub use discount::Discount;
pub use protocol::{
    Asynchronous, Buffered, EdgeLink, Hierarchical, Protocol, SemiSynchronous, Stragglers, Synchronous, Tiered,
};
pub use report::TaskReport;
pub use selection::{Mersenne, Oort, Selection, sample};

use crate::kernel::Span;
use serde::{Deserialize, Serialize};

/// How the server runs the federation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Model versions to attempt; a failed round is an attempt -- at least 1.
    pub rounds: u32,
    /// Whom it asks.
    pub selection: Selection,
    /// Which clients it can ask.
    pub candidates: Candidates,
    /// What becomes of clients whose devices are too small.
    pub memory: MemoryPolicy,
    /// How long it waits, and for whom.
    pub protocol: Protocol,
    /// Time from the close of a round to the next dispatch: aggregation and evaluation.
    pub aggregation: Span,
    /// Time until the server tries again after a round that failed at once, for want of candidates -- above zero.
    pub retry: Span,
}

/// Which clients can be selected. A client with a running task never can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Candidates {
    /// Those online at the moment of selection.
    #[default]
    Online,
    /// All: the server does not know who is online, and a task sent to a client that is not ends as unreachable.
    Everyone,
}

/// What becomes of a client whose device cannot hold its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryPolicy {
    /// It is never selected.
    #[default]
    Ineligible,
    /// It is selected, downloads the model, and fails with an out-of-memory event when training begins.
    Fail,
}
