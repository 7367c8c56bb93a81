//! Choice of the rows of a client that are held out for its own evaluation.

use fedreplay_sim::random::{Purpose, Seed, Stream};

/// A client's rows in two parts, each in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldOut {
    /// Rows to train on; never empty.
    pub train: Vec<usize>,
    /// Rows that are never trained on; empty if the fraction is 0 or the client has a single row.
    pub held_out: Vec<usize>,
}

/// Splits the rows of `client`, its index in the federation.
///
/// `fraction` of the rows, rounded to the nearest count, is held out; at least one row stays in training. Draws one
/// number per held-out row, from `Purpose::HoldOut` of `client`.
///
/// # Panics
/// If `n_rows` is 0 or `fraction` lies outside [0, 1): the scenario and the reader refuse both.
pub fn hold_out(seed: Seed, client: u64, n_rows: usize, fraction: f64) -> HoldOut {
    assert!(n_rows > 0, "client {client} has no rows to split");
    assert!((0.0..1.0).contains(&fraction), "the held-out fraction {fraction} is outside [0, 1)");
    let count = held_out_rows(n_rows, fraction);
    let mut stream = Stream::new(seed, Purpose::HoldOut, client);
    // The sample comes in ascending order, which the binary search below relies on.
    let held_out: Vec<usize> = stream.sample(n_rows as u64, count as u64).into_iter().map(|row| row as usize).collect();
    let train = (0..n_rows).filter(|row| held_out.binary_search(row).is_err()).collect();
    HoldOut { train, held_out }
}

/// Returns how many of a client's rows are held out.
pub fn held_out_rows(n_rows: usize, fraction: f64) -> usize {
    let wanted = (n_rows as f64 * fraction).round() as usize;
    wanted.min(n_rows.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_parts_partition_the_rows(seed: u64, client: u64, n in 1..200usize, fraction in 0.0..0.999f64) {
            let split = hold_out(Seed(seed), client, n, fraction);
            let mut all = [split.train.clone(), split.held_out.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            prop_assert!(!split.train.is_empty());
            prop_assert!((split.held_out.len() as f64 - n as f64 * fraction).abs() <= 1.0);
        }
    }

    #[test]
    fn counts_are_rounded_and_one_row_stays() {
        let held = |n, fraction| hold_out(Seed(1), 0, n, fraction).held_out.len();
        assert_eq!(held(10, 0.0), 0);
        assert_eq!(held(10, 0.25), 3);
        assert_eq!(held(12, 0.2), 2);
        assert_eq!(held(1, 0.9), 0);
        assert_eq!(held(2, 0.9), 1);
        assert_eq!(held_out_rows(10, 0.25), 3);
    }

    #[test]
    fn another_client_or_seed_holds_out_other_rows() {
        let base = hold_out(Seed(1), 0, 100, 0.2);
        assert_eq!(base, hold_out(Seed(1), 0, 100, 0.2));
        assert_ne!(base, hold_out(Seed(1), 1, 100, 0.2));
        assert_ne!(base, hold_out(Seed(2), 0, 100, 0.2));
    }
}
