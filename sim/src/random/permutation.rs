//! Lazily drawn uniform permutations.

use super::Stream;
use std::collections::BTreeMap;

/// Positions that do not hold their own number any more.
enum Swapped {
    /// All positions, if much of the permutation will be read.
    Dense(Vec<u32>),
    /// Only the positions that differ.
    Sparse(BTreeMap<u32, u32>),
}

/// Iterator over the numbers `0..population` in uniform order, with one draw per number.
///
/// It is Fisher-Yates from the front, with the swapped positions in a sparse map unless much of the permutation will be
/// read, so that the first k of a million numbers cost O(k log k). Numbers that the caller skips do not change the
/// order of the others: a policy that sees fewer candidates still selects them in the same order.
pub struct Permutation {
    stream: Stream,
    population: u32,
    drawn: u32,
    swapped: Swapped,
}

impl Permutation {
    /// Returns the permutation of `0..population` that `stream` defines from its next draw on. `expected` is the
    /// approximate count of numbers that will be read; it affects the cost and not the result.
    pub fn new(stream: Stream, population: u32, expected: u32) -> Self {
        let is_dense = u64::from(expected) * 8 >= u64::from(population);
        let swapped =
            if is_dense { Swapped::Dense((0..population).collect()) } else { Swapped::Sparse(BTreeMap::new()) };
        Self { stream, population, drawn: 0, swapped }
    }
}

impl Iterator for Permutation {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let here = self.drawn;
        let left = self.population - self.drawn;
        if left == 0 {
            return None;
        }
        self.drawn += 1;
        // Swaps positions `here` and `there`. Position `here` is never read again, so its old number only moves to
        // `there`.
        let there = here + self.stream.below(u64::from(left)) as u32;
        match &mut self.swapped {
            Swapped::Dense(places) => {
                let displaced = places[here as usize];
                Some(std::mem::replace(&mut places[there as usize], displaced))
            }
            Swapped::Sparse(places) => {
                let displaced = places.remove(&here).unwrap_or(here);
                if there == here {
                    return Some(displaced);
                }
                Some(places.insert(there, displaced).unwrap_or(there))
            }
        }
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
            let mut seen: Vec<u32> = Permutation::new(stream, population, 0).collect();
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
        for expected in [0, 100] {
            let stream = Stream::new(Seed(5), Purpose::Selection, 1);
            assert_eq!(Permutation::new(stream, 100, expected).collect::<Vec<u32>>(), dense);
        }
    }
}
