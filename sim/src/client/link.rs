//! A client's own connection.

use crate::kernel::Span;
use crate::network::Rate;
use crate::random::Quantiles;
use serde::{Deserialize, Serialize};

/// A class of links between a client and the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Capacity towards the client -- above zero.
    pub down: Rate,
    /// Capacity from the client -- above zero.
    pub up: Rate,
    /// Time before the first byte of a transfer moves, each way.
    pub latency: Span,
    /// Addition to the latency of each transfer [ns], drawn once a transfer; `None` means none.
    pub latency_jitter: Option<Quantiles>,
}
