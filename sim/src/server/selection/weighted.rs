//! Weighted sampling without replacement, in exact integer arithmetic.

use super::View;
use crate::random::Stream;

/// Weights in a Fenwick tree: drawing from them and setting one to zero takes O(log n).
pub(super) struct Weights {
    /// Node i holds the sum of the `i & -i` weights up to and including weight i; node 0 is unused.
    tree: Vec<u64>,
    total: u64,
}

impl Weights {
    /// Builds the tree in O(n).
    pub fn new(weights: impl Iterator<Item = u64>) -> Self {
        let mut tree: Vec<u64> = std::iter::once(0).chain(weights).collect();
        let total = tree.iter().sum();
        // Children have smaller numbers than their parent, so each node is complete when it is added to its parent.
        for node in 1..tree.len() {
            let parent = node + (node & node.wrapping_neg());
            if parent < tree.len() {
                tree[parent] += tree[node];
            }
        }
        Self { tree, total }
    }

    /// Draws an index in proportion to its weight and sets that weight to zero; `None` when all are zero.
    pub fn take(&mut self, stream: &mut Stream) -> Option<usize> {
        if self.total == 0 {
            return None;
        }
        let index = self.find(stream.below(self.total));
        self.clear(index);
        Some(index)
    }

    /// Returns the index i with `prefix(i) <= point < prefix(i + 1)`.
    fn find(&self, mut point: u64) -> usize {
        // Descends the tree from its highest power of two: at each step, `node` is the number of leading weights known
        // to lie at or below the point, and `point` is counted from their sum.
        let mut node = 0;
        let mut step = self.tree.len().next_power_of_two() / 2;
        while step > 0 {
            if node + step < self.tree.len() && self.tree[node + step] <= point {
                node += step;
                point -= self.tree[node];
            }
            step /= 2;
        }
        node
    }

    /// Sets a weight to zero.
    fn clear(&mut self, index: usize) {
        let weight = self.prefix(index + 1) - self.prefix(index);
        self.total -= weight;
        let mut node = index + 1;
        while node < self.tree.len() {
            self.tree[node] -= weight;
            node += node & node.wrapping_neg();
        }
    }

    /// Returns the sum of the first `count` weights.
    fn prefix(&self, count: usize) -> u64 {
        let mut node = count;
        let mut sum = 0;
        while node > 0 {
            sum += self.tree[node];
            node -= node & node.wrapping_neg();
        }
        sum
    }
}

/// Draws `count` of `clients` in proportion to `weight`, in the order drawn; fewer if the others have weight zero.
pub(super) fn draw(stream: &mut Stream, clients: &[u32], count: u32, weight: impl Fn(u32) -> u64) -> Vec<u32> {
    let mut weights = Weights::new(clients.iter().map(|client| weight(*client)));
    let mut drawn = Vec::new();
    while drawn.len() < count as usize {
        let Some(index) = weights.take(stream) else { break };
        drawn.push(clients[index]);
    }
    drawn
}

/// Selects candidates in proportion to their rows of training data.
pub(super) fn select_by_size(mut view: View<'_>) -> Vec<u32> {
    let candidates = view.candidates();
    draw(&mut view.stream, &candidates, view.wanted, |client| u64::from((view.samples)(client)))
}

#[cfg(test)]
mod tests {
    use super::super::Selection;
    use super::super::testing::Bench;
    use super::*;
    use crate::random::{Purpose, Seed};

    #[test]
    fn first_draws_are_in_proportion() {
        let mut bench = Bench::default();
        let mut counts = [0u32; 10];
        (0..55_000).for_each(|round| counts[bench.select(Selection::BySize, round, 1)[0] as usize] += 1);
        for (client, count) in (0u32..).zip(counts) {
            assert!(count.abs_diff(1_000 * (client + 1)) < 350, "{counts:?}");
        }
        assert_eq!(bench.select(Selection::BySize, 0, 99).len(), 10);
    }

    #[test]
    fn each_index_is_drawn_once_and_zero_never() {
        for length in [1, 2, 7, 8, 9, 64] {
            let mut stream = Stream::new(Seed(2), Purpose::Selection, length);
            let mut weights = Weights::new((0..length).map(|i| i % 3));
            let mut drawn: Vec<usize> = std::iter::from_fn(|| weights.take(&mut stream)).collect();
            drawn.sort_unstable();
            let expected: Vec<usize> = (0..length as usize).filter(|i| i % 3 != 0).collect();
            assert_eq!(drawn, expected);
        }
    }
}
