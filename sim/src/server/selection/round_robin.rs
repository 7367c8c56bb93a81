//! Round robin selection.

use super::View;

/// Returns the next candidates by number after the one selected last, each at most once.
pub(super) fn select(view: View<'_>) -> Vec<u32> {
    let cursor = view.memory.next_in_turn(view.aggregator);
    let start = *cursor % view.population;
    let turn = (start..view.population).chain(0..start);
    let chosen: Vec<u32> = turn.filter(|client| (view.is_candidate)(*client)).take(view.wanted as usize).collect();
    if let Some(last) = chosen.last() {
        *cursor = last + 1;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::Selection;
    use super::super::testing::Bench;

    #[test]
    fn everyone_has_a_turn() {
        let mut bench = Bench { offline: vec![4], ..Bench::default() };
        let mut rounds = (0..4).map(|round| bench.select(Selection::RoundRobin, round, 4));
        assert_eq!(rounds.next().unwrap(), [0, 1, 2, 3]);
        assert_eq!(rounds.next().unwrap(), [5, 6, 7, 8]);
        assert_eq!(rounds.next().unwrap(), [0, 1, 2, 9]);
        assert_eq!(rounds.next().unwrap(), [3, 5, 6, 7]);
    }
}
