//! The total order of events: by time; within an instant by class; within a class by entity; within an entity in the
//! order of scheduling.

use super::Time;
use serde::{Deserialize, Serialize};

/// Class of an event, which decides its position within an instant. The lowest class comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Class {
    /// Transfers and computations that end. They come before everything that could prevent it, so they count.
    Finish = 0,
    /// Devices, links and regions that leave.
    Leave = 1,
    /// Devices, links and regions that join or return. One that leaves and joins at the same instant is present
    /// afterwards.
    Join = 2,
    /// Deadlines. They come after transfers that end, so an upload that ends at the deadline is in time.
    Deadline = 3,
    /// Decisions of the server, which see every change of the instant.
    Dispatch = 4,
    /// Observations, at the end of the instant.
    Observe = 5,
}

/// Kind of an entity. The order of kinds breaks ties within a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum EntityKind {
    /// The network as a whole. All transfers that are due at an instant end in one event, before computations do.
    Network = 0,
    /// The server.
    Server = 1,
    /// A link of the network.
    Link = 2,
    /// A region of clients.
    Region = 3,
    /// A group of clients with its own aggregator: a tier or an edge.
    Group = 4,
    /// A client.
    Client = 5,
}

/// The entity to which an event happens: a kind and an index below 2^28.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityId(u32);

/// Number of bits of the index; the kind is above them.
const INDEX_BITS: u32 = 28;

impl EntityId {
    /// Greatest index.
    pub const MAX_INDEX: u32 = (1 << INDEX_BITS) - 1;
    /// The network.
    pub const NETWORK: EntityId = EntityId::new(EntityKind::Network, 0);
    /// The server.
    pub const SERVER: EntityId = EntityId::new(EntityKind::Server, 0);

    /// Returns entity `index` of `kind`.
    ///
    /// # Panics
    /// If `index` exceeds [`EntityId::MAX_INDEX`]; validation rejects such populations.
    pub const fn new(kind: EntityKind, index: u32) -> Self {
        assert!(index <= Self::MAX_INDEX, "an entity's index is below 2^28");
        EntityId(((kind as u32) << INDEX_BITS) | index)
    }

    /// Returns the entity of client `index`.
    pub const fn client(index: u32) -> Self {
        Self::new(EntityKind::Client, index)
    }

    /// Returns the number of this entity among those of its kind.
    pub const fn index(self) -> u32 {
        self.0 & Self::MAX_INDEX
    }

    /// Returns the kind of this entity.
    pub const fn kind(self) -> EntityKind {
        match self.0 >> INDEX_BITS {
            0 => EntityKind::Network,
            1 => EntityKind::Server,
            2 => EntityKind::Link,
            3 => EntityKind::Region,
            4 => EntityKind::Group,
            _ => EntityKind::Client,
        }
    }

    /// Returns the number that enters digests.
    pub(crate) const fn code(self) -> u32 {
        self.0
    }
}

/// Position of an event in the total order. The derived order is the contract: fields are compared from first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Time of the event.
    pub at: Time,
    /// Class of the event, its position within the instant.
    pub class: Class,
    /// Entity to which it happens. It is compared before the sequence number, so that the order of ties does not depend
    /// on events of other entities.
    pub entity: EntityId,
    /// Sequence number among the events scheduled in this run.
    pub seq: u64,
}

/// A packed key with the same order. The queue compares ranks, because one comparison of a wide integer is cheaper than
/// four of fields, and because an entry then fits into half a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Rank {
    /// Time in the upper 64 bits, then 32 bits each of class and entity.
    place: u128,
    seq: u64,
}

impl From<Key> for Rank {
    fn from(key: Key) -> Self {
        let within = (u64::from(key.class as u8) << 32) | u64::from(key.entity.0);
        Self { place: (u128::from(key.at.0) << 64) | u128::from(within), seq: key.seq }
    }
}

impl From<Rank> for Key {
    fn from(rank: Rank) -> Self {
        let class = match (rank.place >> 32) as u32 {
            0 => Class::Finish,
            1 => Class::Leave,
            2 => Class::Join,
            3 => Class::Deadline,
            4 => Class::Dispatch,
            _ => Class::Observe,
        };
        Key { at: Time((rank.place >> 64) as u64), class, entity: EntityId(rank.place as u32), seq: rank.seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    fn grid() -> Vec<Key> {
        let mut keys = Vec::new();
        for at in [0, 1] {
            for class in [Class::Finish, Class::Deadline, Class::Observe] {
                for entity in [EntityId::NETWORK, EntityId::client(0), EntityId::client(1)] {
                    keys.extend([0, 1, 2].map(|seq| Key { at: Time(at), class, entity, seq }));
                }
            }
        }
        keys
    }

    #[test]
    fn key_order_is_total() {
        let keys = grid();
        for (i, a) in keys.iter().enumerate() {
            for (j, b) in keys.iter().enumerate() {
                assert_eq!(a.cmp(b), b.cmp(a).reverse());
                assert_eq!(a.cmp(b) == Ordering::Equal, i == j);
                for c in keys.iter().filter(|c| a <= b && b <= *c) {
                    assert!(a <= c);
                }
            }
        }
    }

    #[test]
    fn ranks_have_the_order_of_keys() {
        let keys = grid();
        for a in &keys {
            assert_eq!(Key::from(Rank::from(*a)), *a);
            assert!(keys.iter().all(|b| Rank::from(*a).cmp(&Rank::from(*b)) == a.cmp(b)));
        }
    }

    #[test]
    fn an_entity_keeps_its_kind_and_index() {
        for kind in [EntityKind::Server, EntityKind::Region, EntityKind::Client] {
            let entity = EntityId::new(kind, 12_345);
            assert_eq!((entity.kind(), entity.index()), (kind, 12_345));
        }
        assert!(EntityId::NETWORK < EntityId::SERVER && EntityId::SERVER < EntityId::client(0));
    }
}
