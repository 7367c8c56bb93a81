//! Links of clients.

use crate::kernel::Span;
use crate::network::Rate;
use crate::random::Quantiles;
use serde::{Deserialize, Serialize};

/// A class of links between a client and the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Capacity to the client, above zero.
    pub down: Rate,
    /// Capacity from the client, above zero.
    pub up: Rate,
    /// Time before the first byte of a transfer arrives, in each direction.
    pub latency: Span,
    /// [ns] -- Addition to the latency, drawn once per transfer; `None` adds nothing.
    pub latency_jitter: Option<Quantiles>,
}
