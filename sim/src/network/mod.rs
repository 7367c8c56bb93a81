//! Fluid model of the network: rates, capacities that change over time, and flows that share links max-min fairly, equally or by
//! weight.
//!
//! There are no packets and no congestion windows. A transfer waits for its latency, then becomes a flow with its own
//! rate cap (that of the client's link), and flows share the capacity of links. All arithmetic is exact in integers.
//! Only two values are rounded: the end of a flow, up to the next nanosecond, and a share, down to the next microbyte
//! per second.

mod bottleneck;
mod bundle;
mod capacity;
mod filling;
mod mesh;
mod shared;
mod sharing;
mod topology;
mod transport;
mod work;

pub(crate) use bottleneck::Bottleneck;
pub use bundle::FlowId;
pub use capacity::{Capacity, Rate};
pub use filling::{Claim, Demand, max_min_rates};
pub use mesh::Mesh;
pub use shared::SharedLink;
pub use sharing::{Sharing, Weights};
pub use topology::{Route, Topology, TopologyLink};
pub use transport::{Connection, Overhead, Transport};
pub use work::FlowWork;

use serde::{Deserialize, Serialize};

/// Network between the clients' own links and the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Unlimited capacity: each client transfers at the rate of its own link.
    Unlimited,
    /// One shared link at the server for each direction.
    Server {
        /// Capacity from the server to the clients, shared by all downloads.
        egress: Capacity,
        /// Capacity from the clients to the server, shared by all uploads.
        ingress: Capacity,
    },
    /// A graph of links.
    Topology(Topology),
}
