//! Interventions: changes by which a fork differs from its parent run.

use crate::client::Client;
use crate::network::Capacity;
use crate::random::{Purpose, Seed};
use crate::server::{Protocol, Selection};
use serde::{Deserialize, Serialize};

/// A change to a running simulation. It takes effect one nanosecond after the last processed event, or before the first
/// event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intervention {
    /// No change: the fork keeps its digests.
    None,
    /// A client goes offline permanently.
    Drop(u32),
    /// A client is added, with the next number and with rows of the existing tables.
    Add(Client),
    /// A link of the network gets another capacity, as a function of the time since the start of the run. Link 0 is the
    /// egress and link 1 the ingress of the server; with a topology, links are numbered by its list.
    SetCapacity {
        /// Number of the link.
        link: u32,
        /// New capacity.
        capacity: Capacity,
    },
    /// Another selection policy is used from the next request on.
    SetSelection(Selection),
    /// Other settings of the same protocol are used from the next decision on.
    SetProtocol(Protocol),
    /// One purpose gets another seed. Streams of all other purposes draw the same numbers as before.
    Reseed {
        /// Purpose.
        purpose: Purpose,
        /// New seed.
        seed: Seed,
    },
}
