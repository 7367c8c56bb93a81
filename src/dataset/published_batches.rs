//! The batches of FedLLM-Bench's training loop: a subset drawn by CPython's `random`, in the order of PyTorch's
//! shuffle, divided into steps as `transformers` 4.31 does. They depend on the round, not on the run's seed.

use fedreplay_sim::published::{Mersenne, sample};

/// The default seed of the trainer of `transformers`.
const TRAINER_SEED: u32 = 42;

/// The rows that a task may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedSubset {
    /// As many rows as the task trains on: `random.seed(round); random.sample(range(n), m)`. For single-turn data and
    /// preference pairs.
    OfRound(u32),
    /// All rows, so that every task of a client starts from the beginning of one fixed order. For multi-turn data.
    All,
}

/// The number of optimizer steps and the size of their batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepShape {
    /// [step] -- Optimizer steps per task.
    pub steps: usize,
    /// [micro-batch] -- Micro-batches per step.
    pub accumulation: usize,
    /// [row] -- Rows per micro-batch.
    pub batch_size: usize,
}

impl StepShape {
    /// Returns the number of rows of a task.
    pub fn rows(&self) -> usize {
        self.steps * self.accumulation * self.batch_size
    }

    /// Divides rows, in order, into steps of micro-batches of full size.
    pub fn cut(&self, rows: &[usize]) -> Vec<Vec<Vec<usize>>> {
        let micro_batches: Vec<Vec<usize>> = rows.chunks(self.batch_size).map(<[_]>::to_vec).collect();
        micro_batches.chunks(self.accumulation).map(<[_]>::to_vec).collect()
    }
}

/// Returns the rows of a task by step and micro-batch, as indices below `n_rows`.
///
/// A client with fewer rows than a task needs goes through them again in another order. The last micro-batch of an
/// epoch may be short. Where an epoch has no more micro-batches than a step, the end of the epoch also ends the step:
/// such a step has fewer micro-batches, but its gradient is still their sum divided by the full number.
///
/// # Panics
/// If there are no rows.
pub fn published_steps(subset: PublishedSubset, n_rows: usize, shape: StepShape) -> Vec<Vec<Vec<usize>>> {
    assert!(n_rows > 0, "a task without rows");
    let rows = subset_rows(subset, n_rows, shape);
    let per_epoch = rows.len().div_ceil(shape.batch_size);
    let mut generator = Mersenne::of_torch(TRAINER_SEED);
    let mut steps = Vec::with_capacity(shape.steps);
    let mut step = Vec::new();
    // The trainer counts micro-batches over all epochs, so a step may span two of them.
    let mut seen = 0usize;
    loop {
        let order = epoch(&mut generator, rows.len());
        for (index, micro_batch) in order.chunks(shape.batch_size).enumerate() {
            step.push(micro_batch.iter().map(|&place| rows[place]).collect());
            seen += 1;
            let ends_short_epoch = per_epoch <= shape.accumulation && index + 1 == per_epoch;
            if seen.is_multiple_of(shape.accumulation) || ends_short_epoch {
                steps.push(std::mem::take(&mut step));
            }
            if steps.len() == shape.steps {
                return steps;
            }
        }
    }
}

/// Returns the rows that the task may use, in the order of the training loop's dataset.
fn subset_rows(subset: PublishedSubset, n_rows: usize, shape: StepShape) -> Vec<usize> {
    match subset {
        PublishedSubset::OfRound(round) => {
            let wanted = shape.rows().min(n_rows);
            let drawn = sample(round, row_count(n_rows), row_count(wanted));
            drawn.into_iter().map(|row| row as usize).collect()
        }
        PublishedSubset::All => (0..n_rows).collect(),
    }
}

fn row_count(rows: usize) -> u32 {
    u32::try_from(rows).expect("rows of a client fit 32 bits")
}

/// Returns the order of one epoch of PyTorch's `DataLoader(shuffle=True)`, whose generator was seeded once.
fn epoch(generator: &mut Mersenne, n_rows: usize) -> Vec<usize> {
    // The loader first draws a seed for its workers, then one for the order. Only the low 32 bits of that one are used.
    draw_64_bits(generator);
    let mut shuffling = Mersenne::of_torch(draw_64_bits(generator) as u32);
    let mut order: Vec<usize> = (0..n_rows).collect();
    // `torch.randperm`: Fisher-Yates from the front, with a modulo that is slightly biased.
    for place in 0..n_rows.saturating_sub(1) {
        let ahead = shuffling.next_u32() as usize % (n_rows - place);
        order.swap(place, place + ahead);
    }
    order
}

/// Draws 64 bits, the upper half first.
fn draw_64_bits(generator: &mut Mersenne) -> u64 {
    let upper = u64::from(generator.next_u32());
    let lower = u64::from(generator.next_u32());
    (upper << 32) | lower
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.manual_seed(42)` and two epochs of `DataLoader(range(20), batch_size=4, shuffle=True)`, PyTorch 2.11.
    #[test]
    fn epochs_are_those_of_pytorch() {
        let mut generator = Mersenne::of_torch(42);
        let first = [8, 14, 17, 19, 1, 15, 18, 9, 3, 11, 4, 0, 10, 7, 13, 16, 12, 6, 2, 5];
        let second = [14, 12, 13, 8, 15, 4, 7, 18, 9, 3, 0, 17, 2, 11, 19, 6, 10, 16, 1, 5];
        assert_eq!(epoch(&mut generator, 20), first);
        assert_eq!(epoch(&mut generator, 20), second);
    }

    #[test]
    fn a_small_client_has_steps_of_unequal_length() {
        let shape = StepShape { steps: 5, accumulation: 4, batch_size: 4 };
        let steps = published_steps(PublishedSubset::OfRound(0), 10, shape);
        // Nine micro-batches, as the trainer was seen to consume.
        assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 2, 2, 1]);
        assert_eq!(steps.iter().flatten().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2, 4, 4, 2, 4, 4, 2]);
    }

    #[test]
    fn clients_of_one_size_share_a_round_and_multi_turn_clients_see_one_prefix() {
        let shape = StepShape { steps: 2, accumulation: 2, batch_size: 4 };
        let rows = |subset| published_steps(subset, 100, shape).concat().concat();
        let of_round = |round| rows(PublishedSubset::OfRound(round));
        assert_eq!(of_round(3).len(), 16);
        assert_ne!(of_round(3), of_round(4));
        assert_eq!(rows(PublishedSubset::All), rows(PublishedSubset::All));
        let longer = published_steps(PublishedSubset::All, 100, StepShape { steps: 3, ..shape });
        assert_eq!(longer[..2].concat().concat(), rows(PublishedSubset::All));
    }
}
