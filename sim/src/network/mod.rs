//! How bytes travel: rates, capacities that change over time, and flows that share links max-min fairly.
//!
//! Transfers are fluid: no packets, no congestion windows. A transfer waits its latency, then becomes a flow with a
//! cap of its own (the client's link), and flows share what is scarce. All arithmetic is exact in integers; the only
//! rounding is the end of a flow, up to the next nanosecond, and a share, down to the next microbyte a second.

mod bundle;
mod capacity;
mod filling;
mod mesh;
mod rate;
mod shared;
mod topology;
mod work;

pub use bundle::FlowId;
pub use capacity::Capacity;
pub use filling::{Demand, max_min_rates};
pub use mesh::Mesh;
pub use rate::Rate;
pub use shared::SharedLink;
pub use topology::{Route, Topology, TopologyLink};
pub use work::FlowWork;

use serde::{Deserialize, Serialize};

/// What lies between the clients' own links and the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Nothing that is ever scarce: each client moves bytes at the rate of its own link.
    Unlimited,
    /// One shared link at the server for each direction.
    Server {
        /// Capacity of server to clients, shared by all downloads.
        egress: Capacity,
        /// Capacity of clients to server, shared by all uploads.
        ingress: Capacity,
    },
    /// A graph of links.
    Topology(Topology),
}
