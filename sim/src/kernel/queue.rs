//! The event queue: events by key, and one alarm that can be moved.

use super::key::Rank;
use super::sorted::SortedQueue;
use super::{Class, EntityId, Key, Time};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// One scheduled event.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry<E> {
    rank: Rank,
    event: E,
}

// Entries are compared by rank alone; a rank is unique within a run.
impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    fn lt(&self, other: &Self) -> bool {
        self.rank < other.rank
    }

    fn le(&self, other: &Self) -> bool {
        self.rank <= other.rank
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// Pending events of a run.
///
/// Events are cancelled lazily: they stay in the queue until they are due, when the model recognizes them as stale. The
/// alarm is the one event that moves often (the next end of a transfer), so it is stored separately and does not leave
/// a stale entry behind at each move.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "E: Serialize", deserialize = "E: Deserialize<'de>"))]
pub struct Queue<E> {
    entries: SortedQueue<Entry<E>>,
    alarm: Option<Entry<E>>,
    scheduled: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { entries: SortedQueue::default(), alarm: None, scheduled: 0 }
    }
}

impl<E> Queue<E> {
    /// Adds an event and returns its key.
    pub fn push(&mut self, at: Time, class: Class, entity: EntityId, event: E) -> Key {
        let key = self.next_key(at, class, entity);
        self.entries.push(Entry { rank: key.into(), event });
        key
    }

    /// Sets the alarm, which replaces the previous one, and returns its key.
    pub fn set_alarm(&mut self, at: Time, class: Class, entity: EntityId, event: E) -> Key {
        let key = self.next_key(at, class, entity);
        self.alarm = Some(Entry { rank: key.into(), event });
        key
    }

    /// Removes the alarm, if there is one.
    pub fn clear_alarm(&mut self) {
        self.alarm = None;
    }

    /// Returns the time of the alarm, if it is set.
    pub fn alarm_at(&self) -> Option<Time> {
        self.alarm.as_ref().map(|entry| Key::from(entry.rank).at)
    }

    /// Returns the first event and its key without removing it.
    pub fn peek(&self) -> Option<(Key, &E)> {
        let entry = match (self.entries.peek(), &self.alarm) {
            (Some(first), Some(alarm)) if alarm.rank < first.rank => alarm,
            (Some(first), _) => first,
            (None, alarm) => alarm.as_ref()?,
        };
        Some((entry.rank.into(), &entry.event))
    }

    /// Removes the first event and returns it with its key.
    pub fn pop(&mut self) -> Option<(Key, E)> {
        let alarm_is_first = match (self.entries.peek(), &self.alarm) {
            (Some(first), Some(alarm)) => alarm.rank < first.rank,
            (first, _) => first.is_none(),
        };
        let entry = if alarm_is_first { self.alarm.take() } else { self.entries.pop() };
        entry.map(|entry| (entry.rank.into(), entry.event))
    }

    /// Returns the number of pending events, including stale ones.
    pub fn len(&self) -> usize {
        self.entries.len() + usize::from(self.alarm.is_some())
    }

    /// Returns whether no events are pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a key with the next sequence number.
    fn next_key(&mut self, at: Time, class: Class, entity: EntityId) -> Key {
        self.scheduled += 1;
        Key { at, class, entity, seq: self.scheduled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order of inserting five events gives one order of taking them, where keys differ before the sequence.
    #[test]
    fn ties_follow_class_then_entity_then_seq() {
        let events = [
            (0, Class::Leave, 1u32),
            (1, Class::Finish, 1),
            (1, Class::Finish, 2),
            (1, Class::Deadline, 0),
            (1, Class::Dispatch, 0),
        ];
        let mut orders = Vec::new();
        permutations(&mut vec![0, 1, 2, 3, 4], 0, &mut orders);
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut queue = Queue::default();
            for &i in &order {
                let (at, class, entity) = events[i];
                queue.push(Time(at), class, EntityId::client(entity), i);
            }
            let taken: Vec<usize> = std::iter::from_fn(|| queue.pop().map(|(_, i)| i)).collect();
            assert_eq!(taken, [0, 1, 2, 3, 4], "inserted as {order:?}");
        }
    }

    #[test]
    fn equal_events_of_one_entity_keep_the_order_scheduled_through_a_snapshot() {
        let mut queue = Queue::default();
        for i in 0..5u32 {
            queue.push(Time(1), Class::Finish, EntityId::client(0), i);
        }
        let bytes = postcard::to_stdvec(&queue).unwrap();
        let mut restored: Queue<u32> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(postcard::to_stdvec(&restored).unwrap(), bytes);
        let taken: Vec<u32> = std::iter::from_fn(|| restored.pop().map(|(_, i)| i)).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_moved_alarm_leaves_nothing_behind() {
        let mut queue = Queue::default();
        queue.push(Time(5), Class::Finish, EntityId::client(0), 'a');
        queue.set_alarm(Time(9), Class::Finish, EntityId::NETWORK, 'n');
        queue.set_alarm(Time(5), Class::Finish, EntityId::NETWORK, 'm');
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.peek().map(|(_, event)| *event), Some('m'));
        let taken: Vec<char> = std::iter::from_fn(|| queue.pop().map(|(_, event)| event)).collect();
        assert_eq!(taken, ['m', 'a']);
    }

    fn permutations(items: &mut Vec<usize>, from: usize, out: &mut Vec<Vec<usize>>) {
        if from == items.len() {
            out.push(items.clone());
        }
        for i in from..items.len() {
            items.swap(from, i);
            permutations(items, from + 1, out);
            items.swap(from, i);
        }
    }
}
