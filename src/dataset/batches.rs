//! Choice of the rows that a task trains on, as a pure function of seed, client and task number.

use fedreplay_sim::random::{Purpose, Seed, Stream};

/// Binary logarithm of the number of draws that each task owns in its client's stream.
const DRAWS_PER_TASK_LOG2: u32 = 32;

/// Returns the rows that task number `client_task_number` of `client` trains on, in order: `wanted` indices below
/// `n_rows`.
///
/// The rows come in epochs. Each epoch visits every row once in a new order; the last one may be cut short. A shorter
/// request is a prefix of a longer one, so a task that runs fewer steps sees the same first batches. Draws one number
/// per row, from `Purpose::Batches` of `client`, starting at `client_task_number << 32`.
///
/// # Panics
/// If rows are requested of a client that has none, or a task number or a count exceeds 32 bits.
pub fn round_rows(seed: Seed, client: u64, client_task_number: u64, n_rows: usize, wanted: usize) -> Vec<usize> {
    assert!(n_rows > 0 || wanted == 0, "client {client} has no rows to train on");
    assert!(client_task_number >> DRAWS_PER_TASK_LOG2 == 0, "task number {client_task_number} exceeds 32 bits");
    assert!(wanted as u64 >> DRAWS_PER_TASK_LOG2 == 0, "{wanted} rows exceed the draws of one task");
    // Each task has its own section of the stream, so its rows do not depend on what earlier tasks drew.
    let first_draw = client_task_number << DRAWS_PER_TASK_LOG2;
    let mut stream = Stream::new(seed, Purpose::Batches, client).at(first_draw);
    let mut rows = Vec::with_capacity(wanted);
    while rows.len() < wanted {
        let length = n_rows.min(wanted - rows.len());
        append_epoch(&mut stream, n_rows, length, &mut rows);
    }
    rows
}

/// Appends the first `length` rows of a new permutation. Fisher-Yates runs from the front, so a prefix takes only
/// `length` draws.
fn append_epoch(stream: &mut Stream, n_rows: usize, length: usize, rows: &mut Vec<usize>) {
    let mut order: Vec<usize> = (0..n_rows).collect();
    for position in 0..length {
        let rest = (n_rows - position) as u64;
        order.swap(position, position + stream.below(rest) as usize);
    }
    rows.extend_from_slice(&order[..length]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_epoch_visits_every_row_once(seed: u64, client: u64, task in 0..1_000u64, n in 1..40usize, wanted in 0..200usize) {
            let rows = round_rows(Seed(seed), client, task, n, wanted);
            prop_assert_eq!(rows.len(), wanted);
            for epoch in rows.chunks(n) {
                let distinct: std::collections::BTreeSet<_> = epoch.iter().copied().collect();
                prop_assert_eq!(distinct.len(), epoch.len());
                prop_assert!(epoch.iter().all(|&row| row < n));
            }
        }

        #[test]
        fn a_shorter_request_is_a_prefix(seed: u64, n in 1..40usize, wanted in 0..100usize, less in 0..100usize) {
            let long = round_rows(Seed(seed), 3, 1, n, wanted);
            let short = round_rows(Seed(seed), 3, 1, n, less.min(wanted));
            prop_assert_eq!(&long[..short.len()], &short[..]);
        }
    }

    #[test]
    fn tasks_clients_and_seeds_differ() {
        let base = round_rows(Seed(1), 0, 0, 50, 50);
        assert_ne!(base, round_rows(Seed(1), 0, 1, 50, 50));
        assert_ne!(base, round_rows(Seed(1), 1, 0, 50, 50));
        assert_ne!(base, round_rows(Seed(2), 0, 0, 50, 50));
    }

    #[test]
    fn the_draws_are_the_documented_ones() {
        let mut stream = Stream::new(Seed(9), Purpose::Batches, 4).at(7 << 32);
        assert_eq!(round_rows(Seed(9), 4, 7, 1_000, 1), [stream.below(1_000) as usize]);
    }
}
