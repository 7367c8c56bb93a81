//! Power of choice: the worst off of a random few.

use super::{View, weighted};
use std::cmp::Reverse;

/// Draws `draw` candidates in proportion to rows, and takes those with the greatest last loss. Ties go to the lower
/// number.
pub(super) fn select(mut view: View<'_>, draw: u32) -> Vec<u32> {
    let candidates = view.candidates();
    let mut drawn = weighted::draw(&mut view.stream, &candidates, draw, |client| u64::from((view.samples)(client)));
    let loss = |client: &u32| view.memory.last(*client).map_or(u64::MAX, |last| last.loss_nanonats);
    drawn.sort_by_key(|client| (Reverse(loss(client)), *client));
    drawn.truncate(view.wanted as usize);
    drawn
}

#[cfg(test)]
mod tests {
    use super::super::Selection;
    use super::super::testing::Bench;

    #[test]
    fn the_greatest_losses_are_taken_and_the_unknown_first() {
        let mut bench = Bench::default();
        for client in 0..9 {
            bench.memory.count(client, 0, 1);
            bench.memory.report(client, 100 - u64::from(client));
        }
        // All ten are drawn; 9 has never reported, then 0, 1, 2 have the greatest losses.
        assert_eq!(bench.select(Selection::PowerOfChoice { draw: 10 }, 0, 4), [0, 1, 2, 9]);
    }
}
