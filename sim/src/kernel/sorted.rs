//! A cache-friendly priority queue: a small binary heap and sorted runs.
//!
//! New entries go to the heap. A full heap is sorted into a run, and a second heap holds the first entry of each run.
//! An entry therefore costs one insertion into a heap that fits into the cache, one sort, and one sequential read. In a
//! single large heap it would cost a cache miss at each of about twenty levels. The order of the output is the same:
//! the least entry first. This is the two-level case of Sanders, "Fast priority queues for cached memory" (2000).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Capacity of the heap for new entries.
const FRESH_MAX: usize = 4_096;

/// Number of runs at which all are merged, so that many nearly exhausted runs do not make the second heap large.
const RUNS_MAX: usize = 1_024;

/// A priority queue that returns the least entry first.
#[derive(Clone, Debug)]
pub(crate) struct SortedQueue<T> {
    fresh: BinaryHeap<Reverse<T>>,
    /// First entry of each run, with the index of the run.
    firsts: BinaryHeap<Reverse<(T, u32)>>,
    /// Remaining entries of each run, descending. An exhausted run is empty.
    runs: Vec<Vec<T>>,
    len: usize,
}

impl<T: Ord> Default for SortedQueue<T> {
    fn default() -> Self {
        Self { fresh: BinaryHeap::new(), firsts: BinaryHeap::new(), runs: Vec::new(), len: 0 }
    }
}

impl<T: Ord> SortedQueue<T> {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: T) {
        self.len += 1;
        if self.fresh.len() == FRESH_MAX {
            // `Reverse` turns the max-heap into a min-heap, and its ascending order into the descending one of runs.
            let full = std::mem::take(&mut self.fresh).into_sorted_vec();
            self.add_run(full.into_iter().map(|Reverse(entry)| entry).collect());
        }
        self.fresh.push(Reverse(entry));
    }

    /// Returns the least entry.
    pub fn peek(&self) -> Option<&T> {
        let fresh = self.fresh.peek().map(|Reverse(entry)| entry);
        let first = self.firsts.peek().map(|Reverse((entry, _))| entry);
        fresh.into_iter().chain(first).min()
    }

    /// Removes and returns the least entry.
    pub fn pop(&mut self) -> Option<T> {
        let fresh_is_least = match (self.fresh.peek(), self.firsts.peek()) {
            (Some(Reverse(fresh)), Some(Reverse((first, _)))) => fresh < first,
            (fresh, _) => fresh.is_some(),
        };
        let entry = if fresh_is_least { self.fresh.pop().map(|Reverse(entry)| entry) } else { self.pop_first() };
        self.len -= usize::from(entry.is_some());
        entry
    }

    /// Keeps only the entries that `wanted` accepts.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        let mut entries = self.take_all();
        entries.retain(wanted);
        *self = Self::from_unsorted(entries);
    }

    /// Returns all entries, ascending.
    pub fn sorted(&self) -> Vec<&T> {
        let mut entries: Vec<&T> = self.fresh.iter().map(|Reverse(entry)| entry).collect();
        entries.extend(self.firsts.iter().map(|Reverse((entry, _))| entry));
        entries.extend(self.runs.iter().flatten());
        entries.sort_unstable();
        entries
    }

    /// Removes the least of the runs' first entries and replaces it by the next entry of its run.
    fn pop_first(&mut self) -> Option<T> {
        // Replacing the top in place sifts once, where a pop and a push would sift twice.
        let mut top = self.firsts.peek_mut()?;
        let run = top.0.1;
        match self.runs[run as usize].pop() {
            Some(next) => Some(std::mem::replace(&mut top.0.0, next)),
            None => Some(std::collections::binary_heap::PeekMut::pop(top).0.0),
        }
    }

    /// Adds a run of descending entries.
    fn add_run(&mut self, mut run: Vec<T>) {
        if self.firsts.len() >= RUNS_MAX {
            run.extend(self.firsts.drain().map(|Reverse((entry, _))| entry));
            run.extend(self.runs.drain(..).flatten());
            run.sort_unstable_by(|a, b| b.cmp(a));
        }
        // All runs are exhausted (or were just merged into this one), so their indices can be reused.
        if self.firsts.is_empty() {
            self.runs.clear();
        }
        let Some(first) = run.pop() else { return };
        self.firsts.push(Reverse((first, self.runs.len() as u32)));
        self.runs.push(run);
    }

    /// Removes and returns all entries, in no particular order.
    fn take_all(&mut self) -> Vec<T> {
        let mut entries: Vec<T> = self.fresh.drain().map(|Reverse(entry)| entry).collect();
        entries.extend(self.firsts.drain().map(|Reverse((entry, _))| entry));
        entries.extend(self.runs.drain(..).flatten());
        entries
    }

    /// Returns a queue of these entries, as a single run.
    fn from_unsorted(mut entries: Vec<T>) -> Self {
        entries.sort_unstable_by(|a, b| b.cmp(a));
        let mut queue = Self { len: entries.len(), ..Self::default() };
        queue.add_run(entries);
        queue
    }
}

/// Serialized as a sorted list, so that queues with equal contents have equal bytes regardless of their history.
impl<T: Ord + Serialize> Serialize for SortedQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.sorted().serialize(serializer)
    }
}

impl<'de, T: Ord + Deserialize<'de>> Deserialize<'de> for SortedQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_unsorted(Vec::<T>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Seed, Stream};

    /// Entries in order, in several interleaved orders and at random, against a sorted list.
    #[test]
    fn the_least_comes_first_whatever_the_order_of_arrival() {
        let mut stream = Stream::new(Seed(1), Purpose::Selection, 0);
        for kind in 0..3u64 {
            let (mut queue, mut expected) = (SortedQueue::default(), std::collections::BTreeSet::new());
            for i in 0..60_000u64 {
                let value = match kind {
                    0 => i,
                    1 => i + (i % 30) * 1_000,
                    _ => stream.below(1_000_000),
                };
                queue.push((value, i));
                expected.insert((value, i));
                if i % 5 == 4 {
                    assert_eq!(queue.peek(), expected.first());
                    assert_eq!(queue.pop(), expected.pop_first());
                }
                if i % 25_000 == 24_999 {
                    queue.retain(|entry| entry.1 % 2 == 0);
                    expected.retain(|entry| entry.1 % 2 == 0);
                }
                assert_eq!(queue.len(), expected.len());
            }
            while let Some(entry) = queue.pop() {
                assert_eq!(Some(entry), expected.pop_first());
            }
            assert!(expected.is_empty() && queue.len() == 0);
        }
    }

    /// Runs that are almost used up are merged: each leaves one entry for the far future.
    #[test]
    fn many_thin_runs_are_merged() {
        let mut queue = SortedQueue::default();
        let mut taken = 0u64;
        for run in 0..1_100u64 {
            (0..FRESH_MAX as u64).for_each(|i| queue.push(if i == 0 { u64::MAX - run } else { run }));
            (1..FRESH_MAX).for_each(|_| taken += u64::from(queue.pop() == Some(run)));
        }
        assert_eq!((taken, queue.len()), (1_100 * (FRESH_MAX as u64 - 1), 1_100));
        assert!(queue.firsts.len() <= RUNS_MAX + 1);
        assert_eq!(queue.pop(), Some(u64::MAX - 1_099));
    }
}
