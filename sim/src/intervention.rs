//! Changes from outside, by which a fork departs from the run that it was forked from.

use crate::client::Client;
use crate::network::Capacity;
use crate::random::{Purpose, Seed};
use crate::server::{Protocol, Selection};
use serde::{Deserialize, Serialize};

/// One change. It takes effect a nanosecond after the last processed event, or before the first event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intervention {
    /// No change: the fork keeps its digests.
    None,
    /// A client goes offline for good.
    Drop(u32),
    /// One more client, with the next number and rows of the existing tables.
    Add(Client),
    /// A link of the network has this capacity, a function of the time since the start: 0 is egress and 1 ingress of
    /// the server, or the links of the topology by index.
    SetCapacity {
        /// Which link.
        link: u32,
        /// Its capacity.
        capacity: Capacity,
    },
    /// Another selection from the next request on.
    SetSelection(Selection),
    /// Other settings of the same protocol from the next decision on.
    SetProtocol(Protocol),
    /// Another seed for one purpose. Streams of all other purposes draw the same numbers as before.
    Reseed {
        /// Which purpose.
        purpose: Purpose,
        /// Its seed.
        seed: Seed,
    },
}
