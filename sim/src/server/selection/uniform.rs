//! Uniform selection without replacement.

use super::View;
use crate::random::Permutation;

/// Returns the first candidates in the round's uniform order of all clients.
///
/// The order does not depend on which clients are candidates, so two runs that differ in availability select the same
/// clients as far as possible.
pub(super) fn select(view: View<'_>) -> Vec<u32> {
    Permutation::new(view.stream, view.population, view.wanted)
        .filter(|client| (view.is_candidate)(*client))
        .take(view.wanted as usize)
        .collect()
}

/// Returns the first candidates in the round's uniform order that stay online for their task, then the first of those
/// that do not.
pub(super) fn select_lasting(view: View<'_>) -> Vec<u32> {
    let wanted = view.wanted as usize;
    let mut lasting = Vec::new();
    let mut leaving = Vec::new();
    let order = Permutation::new(view.stream, view.population, view.population);
    for client in order.filter(|client| (view.is_candidate)(*client)) {
        if (view.lasts)(client) {
            lasting.push(client);
        } else if leaving.len() < wanted {
            leaving.push(client);
        }
        if lasting.len() == wanted {
            break;
        }
    }
    leaving.truncate(wanted - lasting.len());
    lasting.extend(leaving);
    lasting
}

#[cfg(test)]
mod tests {
    use super::super::Selection;
    use super::super::testing::Bench;

    #[test]
    fn who_is_offline_is_replaced_and_nobody_else() {
        let mut bench = Bench::default();
        let all = bench.select(Selection::Uniform, 0, 5);
        bench.offline = vec![all[2]];
        let fewer = bench.select(Selection::Uniform, 0, 5);
        assert_eq!(fewer.len(), 5);
        assert_eq!(fewer.iter().filter(|client| all.contains(client)).count(), 4);
        assert!(!fewer.contains(&all[2]));
    }

    #[test]
    fn who_leaves_soon_comes_last() {
        let mut bench = Bench { leaving: vec![0, 1, 2, 3, 4, 5, 6], ..Bench::default() };
        assert_eq!(bench.select(Selection::AvailabilityAware, 0, 3), [7, 8, 9]);
        let five = bench.select(Selection::AvailabilityAware, 0, 5);
        assert_eq!(five[2..], [7, 8, 9]);
    }
}
