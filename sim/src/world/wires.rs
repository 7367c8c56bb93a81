//! The network as the world uses it: downloads and uploads by client, one alarm for the next that ends.

use crate::federation::Federation;
use crate::kernel::Time;
use crate::network::{Capacity, FlowWork, Network, Rate, SharedLink};
use serde::{Deserialize, Serialize};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    Down = 0,
    Up = 1,
}

/// The shared links, one each way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wires {
    down: SharedLink,
    up: SharedLink,
}

impl Wires {
    pub fn new(network: &Network) -> Self {
        match network {
            Network::Unlimited => Self { down: SharedLink::unlimited(), up: SharedLink::unlimited() },
            Network::Server { egress, ingress } => {
                Self { down: SharedLink::new(egress.at(Time::ZERO)), up: SharedLink::new(ingress.at(Time::ZERO)) }
            }
        }
    }

    pub fn start(&mut self, now: Time, way: Way, client: u32, cap: Rate, bytes: u64) -> u32 {
        self.link(way).insert(now, client, cap, FlowWork::of_bytes(bytes))
    }

    /// Stops a transfer and returns the bytes that it had left.
    pub fn stop(&mut self, now: Time, way: Way, flow: u32) -> u64 {
        self.link(way).remove(now, flow).bytes_left()
    }

    /// When the next transfer ends.
    pub fn next_end(&mut self) -> Option<Time> {
        let (down, up) = (self.down.next_end(), self.up.next_end());
        down.into_iter().chain(up).min()
    }

    /// Clients whose transfers end at `now`: downloads, then uploads, each ascending.
    pub fn take_ended(&mut self, now: Time) -> [Vec<u32>; 2] {
        let mut ended = [Vec::new(), Vec::new()];
        self.down.take_ended(now, &mut ended[0]);
        self.up.take_ended(now, &mut ended[1]);
        ended
    }

    /// Gives shared link `index` the capacity that holds at `now`, and returns when it changes next.
    pub fn change_capacity(&mut self, federation: &Federation, index: u32, now: Time) -> Option<Time> {
        let (capacity, way) = capacities(&federation.network).into_iter().nth(index as usize)?;
        self.link(way).set_capacity(now, capacity.at(now));
        capacity.next_change(now)
    }

    fn link(&mut self, way: Way) -> &mut SharedLink {
        match way {
            Way::Down => &mut self.down,
            Way::Up => &mut self.up,
        }
    }
}

/// The capacities of a network's shared links, by index.
pub(super) fn capacities(network: &Network) -> Vec<(&Capacity, Way)> {
    match network {
        Network::Unlimited => Vec::new(),
        Network::Server { egress, ingress } => vec![(egress, Way::Down), (ingress, Way::Up)],
    }
}
