//! A uniform permutation that is drawn only as far as it is looked at.

use super::Stream;
use std::collections::BTreeMap;

/// The numbers `0..population` in uniform order, one draw each (Fisher-Yates from the front, with the swapped places in
/// a sparse map). Looking at the first k of a million costs O(k log k).
///
/// Who is skipped by the caller does not change the order of the others, so a policy that sees fewer candidates still
/// asks them in the same order.
pub struct Permutation {
    stream: Stream,
    population: u32,
    drawn: u32,
    swapped: BTreeMap<u32, u32>,
}

impl Permutation {
    /// The permutation of `0..population` that `stream` defines from its next draw on.
    pub fn new(stream: Stream, population: u32) -> Self {
        Self { stream, population, drawn: 0, swapped: BTreeMap::new() }
    }
}

impl Iterator for Permutation {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (here, left) = (self.drawn, self.population - self.drawn);
        if left == 0 {
            return None;
        }
        self.drawn += 1;
        let there = here + self.stream.below(u64::from(left)) as u32;
        let displaced = self.swapped.remove(&here).unwrap_or(here);
        if there == here {
            return Some(displaced);
        }
        Some(self.swapped.insert(there, displaced).unwrap_or(there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Seed};

    #[test]
    fn every_number_comes_once() {
        for population in [0, 1, 2, 17, 1000] {
            let stream = Stream::new(Seed(5), Purpose::Selection, 0);
            let mut seen: Vec<u32> = Permutation::new(stream, population).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..population).collect::<Vec<_>>());
        }
    }

    #[test]
    fn it_equals_a_dense_shuffle_from_the_front() {
        let mut dense: Vec<u32> = (0..100).collect();
        let mut stream = Stream::new(Seed(5), Purpose::Selection, 1);
        for i in 0..100 {
            dense.swap(i, i + stream.below(100 - i as u64) as usize);
        }
        let sparse: Vec<u32> = Permutation::new(Stream::new(Seed(5), Purpose::Selection, 1), 100).collect();
        assert_eq!(sparse, dense);
    }
}
