//! The total order of events: earlier first; at one instant, by class; within a class, by entity; within an entity, in
//! the order scheduled.

use super::Time;
use serde::{Deserialize, Serialize};

/// What kind of thing an event is, which decides its place within one instant. Lowest first, each with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Class {
    /// Transfers and computation that end now count: they come before everything that could prevent it.
    Finish = 0,
    /// Then devices, links and regions go.
    Leave = 1,
    /// Then devices, links and regions come (back): who leaves and joins at one instant is there afterwards.
    Join = 2,
    /// Deadlines come after what finishes, so an upload at the deadline is on time.
    Deadline = 3,
    /// Decisions of the server see every change of this instant.
    Dispatch = 4,
    /// Observers see the instant when it is over.
    Observe = 5,
}

/// What an entity is. The order of the kinds is the order of ties within a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum EntityKind {
    /// The network as a whole: every transfer due at an instant ends in one go, before computations do.
    Network = 0,
    /// The server.
    Server = 1,
    /// A link of the topology.
    Link = 2,
    /// A region of clients.
    Region = 3,
    /// A group of clients with an aggregator of its own: a tier or an edge.
    Group = 4,
    /// A client.
    Client = 5,
}

/// Who an event happens to: a kind and an index below 2^28.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityId(u32);

const INDEX_BITS: u32 = 28;

impl EntityId {
    /// The most entities of one kind.
    pub const MAX_INDEX: u32 = (1 << INDEX_BITS) - 1;
    /// The network.
    pub const NETWORK: EntityId = EntityId::new(EntityKind::Network, 0);
    /// The server.
    pub const SERVER: EntityId = EntityId::new(EntityKind::Server, 0);

    /// Entity `index` of `kind`.
    ///
    /// # Panics
    /// If `index` exceeds [`EntityId::MAX_INDEX`]; validation refuses such populations.
    pub const fn new(kind: EntityKind, index: u32) -> Self {
        assert!(index <= Self::MAX_INDEX, "an entity's index is below 2^28");
        EntityId(((kind as u32) << INDEX_BITS) | index)
    }

    /// Client `index`.
    pub const fn client(index: u32) -> Self {
        Self::new(EntityKind::Client, index)
    }

    /// The number of this entity among those of its kind.
    pub const fn index(self) -> u32 {
        self.0 & Self::MAX_INDEX
    }

    /// The kind of this entity.
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

    /// The number as it enters digests.
    pub(crate) const fn code(self) -> u32 {
        self.0
    }
}

/// The place of an event in the total order. The derived order is the contract: fields are compared from first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// When it happens.
    pub at: Time,
    /// Its class within the instant.
    pub class: Class,
    /// Whom it happens to. Entity comes before sequence, so the order of ties depends on no other entity's events.
    pub entity: EntityId,
    /// The how-manieth event scheduled in this run.
    pub seq: u64,
}

/// A key in two words, whose order is that of keys. The queue compares ranks, because one comparison of a wide integer
/// is cheaper than four of fields, and an entry stays within half a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Rank {
    /// Time in the upper half, then class and entity.
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
        let (at, entity) = (Time((rank.place >> 64) as u64), EntityId(rank.place as u32));
        Key { at, class, entity, seq: rank.seq }
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
