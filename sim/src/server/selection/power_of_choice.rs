//! Power of choice: the clients of greatest loss among a random sample.

use super::{View, weighted};
use std::cmp::Reverse;

/// Draws `draw` candidates in proportion to rows, and returns those with the greatest last loss. Ties go to the lower
/// number.
pub(super) fn select(mut view: View<'_>, draw: u32) -> Vec<u32> {
    let candidates = view.candidates();
    let mut drawn = weighted::draw(&mut view.stream, &candidates, draw, |client| u64::from((view.samples)(client)));
    drawn.sort_by_key(|client| {
        // A client without a result counts as one of the greatest loss.
        let loss = view.memory.last(*client).map_or(u64::MAX, |last| last.loss_nanonats);
        (Reverse(loss), *client)
    });
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
