//! Everything that can happen in a federation.

use crate::server::protocol::Aggregator;
use serde::{Deserialize, Serialize};

/// The closed list of events. A client's events carry the stamp of the phase that they end; when the client has moved
/// on, they are stale. An event is eight bytes, so that an entry of the queue is half a cache line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Transfers end.
    TransfersEnd,
    /// The latency of a client's transfer is over.
    LatencyOver { stamp: u32 },
    /// A client has trained.
    Trained { stamp: u32 },
    /// A client gives its task up.
    GivesUp { stamp: u32 },
    /// Whether a client with this task can be reached may change.
    PresenceChanges { task: u32 },
    /// A region is cut off, or comes back.
    RegionChanges { is_cut: bool },
    /// The capacity of a link of the network changes.
    CapacityChanges { stamp: u32 },
    /// The latency of an edge's transfer is over.
    EdgeLatencyOver { is_upload: bool },
    /// A round's deadline, at the server or at the group of its aggregator.
    Deadline { round: u32 },
    /// An aggregator may dispatch.
    Dispatch { aggregator: Aggregator },
    /// The world or a policy is changed from outside.
    Intervene { index: u32 },
    /// Nothing else is left to happen.
    Stalled,
}
