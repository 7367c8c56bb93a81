//! Events of a federation.

use crate::server::protocol::Aggregator;
use serde::{Deserialize, Serialize};

/// An event of the simulation. A client's events carry the stamp of the phase that they end; once the client has moved
/// on to another phase, they are stale. An event takes eight bytes, so that an entry of the queue is half a cache line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Transfers end.
    TransfersEnd,
    /// The latency of a client's transfer is over.
    LatencyOver { stamp: u32 },
    /// A client has finished training.
    Trained { stamp: u32 },
    /// A client gives up its task.
    GivesUp { stamp: u32 },
    /// The reachability of the client with this task may change.
    PresenceChanges { task: u32 },
    /// A region is cut off or restored.
    RegionChanges { is_cut: bool },
    /// The capacity of a link of the network changes.
    CapacityChanges { stamp: u32 },
    /// The latency of an edge's transfer is over.
    EdgeLatencyOver { is_upload: bool },
    /// A round's deadline, at the server or at the group of the round's aggregator.
    Deadline { round: u32 },
    /// An aggregator may dispatch tasks.
    Dispatch { aggregator: Aggregator },
    /// The world or a policy is changed from outside.
    Intervene { index: u32 },
    /// No other events are pending.
    Stalled,
}
