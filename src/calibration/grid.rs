//! Shapes of micro-batches to measure: a grid of ranks, rows and lengths, and shapes inside of its cells that are left out of the fit.

use super::settings::{CalibrationOptions, MeasuringError, PassShape};
use crate::scenario::ScenarioSpec;

/// Greatest number of values of rows and of lengths in a grid that nobody chose.
const VALUES_MAX: usize = 4;

/// [token] -- Least length in a grid that nobody chose, unless the scenario's rows are short.
const LENGTH_LEAST: u32 = 32;

/// [token] -- Divisor of the lengths in a grid that nobody chose.
const LENGTH_MULTIPLE: u32 = 8;

/// Shapes to measure, in which the values of an axis ascend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    pub ranks: Vec<u32>,
    pub rows: Vec<u32>,
    pub lengths: Vec<u32>,
    /// Shapes that the fit does not see.
    pub held_out: Vec<PassShape>,
}

impl Grid {
    /// Returns the grid of the options. Axes without values follow from the scenario: rows are powers of two up to its batch, four
    /// lengths are spread by equal ratios up to its longest rows, and ranks are the least and the greatest of its clients.
    ///
    /// # Errors
    /// If an axis has values that cannot be measured, or too few.
    pub fn new(spec: &ScenarioSpec, options: &CalibrationOptions) -> Result<Self, MeasuringError> {
        let rows = chosen("rows", &options.rows, || rows_up_to(spec.training.batch_size))?;
        let lengths = chosen("lengths", &options.lengths, || lengths_up_to(spec.data.max_seq_length))?;
        let ranks = chosen("ranks", &options.ranks, || ranks_of(spec))?;
        if lengths[0] < 2 || lengths.len() < 2 {
            let reason = format!("{lengths:?} are too few: two lengths of at least 2 tokens are needed");
            return Err(MeasuringError::Setting { field: "lengths", reason });
        }
        let held_out = held_out(&ranks, &rows, &lengths, options.held_out as usize);
        Ok(Self { ranks, rows, lengths, held_out })
    }

    /// Returns the shapes at the points of the grid, by ascending number of tokens.
    pub fn points(&self) -> Vec<PassShape> {
        let mut points = Vec::new();
        for &rank in &self.ranks {
            for &rows in &self.rows {
                points.extend(self.lengths.iter().map(|&length| PassShape { rows, length, rank }));
            }
        }
        points.sort_by_key(|shape| (shape.tokens(), *shape));
        points
    }
}

/// Returns the values that were chosen for an axis, ascending and each once, or else the usual ones.
fn chosen(field: &'static str, chosen: &[u32], usual: impl FnOnce() -> Vec<u32>) -> Result<Vec<u32>, MeasuringError> {
    if chosen.contains(&0) {
        return Err(MeasuringError::Setting { field, reason: "0 cannot be measured".into() });
    }
    let mut values = if chosen.is_empty() { usual() } else { chosen.to_vec() };
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

/// Returns 1, the batch and powers of two between them.
fn rows_up_to(batch_size: u32) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..u32::BITS).map(|power| 1 << power).take_while(|&rows| rows < batch_size).collect();
    rows.push(batch_size);
    let last = rows.len() - 1;
    if last < VALUES_MAX {
        return rows;
    }
    // Places at about equal distances, with both ends.
    let gaps = VALUES_MAX - 1;
    (0..VALUES_MAX).map(|index| rows[(index * last + gaps / 2) / gaps]).collect()
}

/// [token] -- Returns lengths with about equal ratios, up to the longest.
fn lengths_up_to(longest: u32) -> Vec<u32> {
    let least = f64::from((longest / 8).clamp(2, LENGTH_LEAST));
    let ratio = f64::from(longest) / least;
    let gaps = VALUES_MAX as u32 - 1;
    let mut lengths = Vec::with_capacity(VALUES_MAX);
    for index in 0..gaps {
        // The geometric sequence from `least` to `longest`, whose last element is added after the loop.
        let length = (least * ratio.powf(f64::from(index) / f64::from(gaps))).round() as u32;
        let multiple = (length + LENGTH_MULTIPLE / 2) / LENGTH_MULTIPLE * LENGTH_MULTIPLE;
        lengths.push(if length >= 2 * LENGTH_MULTIPLE { multiple.min(longest) } else { length.min(longest) });
    }
    lengths.push(longest);
    lengths
}

/// Returns the least and the greatest rank of a scenario's clients.
fn ranks_of(spec: &ScenarioSpec) -> Vec<u32> {
    let lora = &spec.model.lora;
    let least = lora.ranks.values().copied().min().unwrap_or(lora.rank);
    vec![least, lora.rank]
}

/// Returns up to `count` shapes in the middle of cells of the grid. They begin with the longest rows, where an interpolation has the most
/// to be wrong about, and every other one is between two ranks.
fn held_out(ranks: &[u32], rows: &[u32], lengths: &[u32], count: usize) -> Vec<PassShape> {
    let mut shapes = Vec::new();
    let cells = (lengths.len() - 1) * rows.len().max(2);
    for index in 0..cells {
        if shapes.len() == count {
            break;
        }
        // Once all intervals of lengths had their turn, those of rows shift, so that other cells come.
        let turn = index / (lengths.len() - 1);
        let length = middle(lengths, index);
        let shape =
            PassShape { rows: rows_of_held_out(rows, index, turn), length, rank: rank_of_held_out(ranks, index) };
        if !lengths.contains(&length) && !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    shapes
}

/// Returns the middle of an interval between neighbors, counted from the last and again from there after the first. A single value is
/// its own.
fn middle(values: &[u32], index: usize) -> u32 {
    if values.len() == 1 {
        return values[0];
    }
    // The upper end of the interval.
    let high = values.len() - 1 - index % (values.len() - 1);
    values[high - 1] + (values[high] - values[high - 1]) / 2
}

/// Returns a number of rows in the middle of an interval or, where there is none between neighbors, one and the other by turns.
fn rows_of_held_out(rows: &[u32], index: usize, turn: usize) -> u32 {
    let between = middle(rows, index + turn);
    match rows.binary_search(&between) {
        Ok(place) => rows[(place + turn % 2).min(rows.len() - 1)],
        Err(_) => between,
    }
}

/// Returns a rank of the grid or, every other time, one between two of them.
fn rank_of_held_out(ranks: &[u32], index: usize) -> u32 {
    match index % 2 {
        0 => ranks[ranks.len() - 1 - index / 2 % ranks.len()],
        _ => middle(ranks, index / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_powers_of_two_up_to_the_batch() {
        for (batch_size, expected) in [
            (1, vec![1]),
            (2, vec![1, 2]),
            (6, vec![1, 2, 4, 6]),
            (8, vec![1, 2, 4, 8]),
            (16, vec![1, 2, 8, 16]),
            (64, vec![1, 4, 16, 64]),
        ] {
            assert_eq!(rows_up_to(batch_size), expected, "{batch_size}");
        }
    }

    #[test]
    fn lengths_have_about_equal_ratios() {
        // 32 (1024 / 32)^(1/3) = 101.6 and 32 (1024 / 32)^(2/3) = 322.5, to multiples of 8.
        assert_eq!(lengths_up_to(1024), [32, 104, 320, 1024]);
        // 24, 48 and 96 are exact.
        assert_eq!(lengths_up_to(192), [24, 48, 96, 192]);
        assert_eq!(lengths_up_to(64), [8, 16, 32, 64]);
        assert_eq!(lengths_up_to(16), [2, 4, 8, 16]);
        assert_eq!(lengths_up_to(2), [2, 2, 2, 2]);
    }

    #[test]
    fn held_out_shapes_are_inside_of_cells_and_differ() {
        let shape = |rows, length, rank| PassShape { rows, length, rank };
        assert_eq!(
            held_out(&[8, 32], &[1, 2, 4, 8], &[32, 104, 320, 1024], 4),
            [shape(6, 672, 32), shape(3, 212, 20), shape(1, 68, 8), shape(3, 672, 20)]
        );
        // A single value of rows and of ranks is all that can be measured.
        assert_eq!(held_out(&[8], &[2], &[16, 32, 64], 4), [shape(2, 48, 8), shape(2, 24, 8)]);
        // Neither is there a number of rows between 1 and 2.
        assert_eq!(
            held_out(&[8], &[1, 2], &[16, 32, 64], 4),
            [shape(1, 48, 8), shape(1, 24, 8), shape(2, 48, 8), shape(2, 24, 8)]
        );
        // There is no length between neighbors.
        assert_eq!(held_out(&[8], &[2], &[16, 17], 4), []);
        assert_eq!(held_out(&[8], &[2], &[16, 32], 0), []);
    }

    #[test]
    fn points_ascend_by_tokens() {
        let grid = Grid { ranks: vec![4, 8], rows: vec![1, 3], lengths: vec![10, 20], held_out: vec![] };
        let tokens: Vec<u64> = grid.points().iter().map(|shape| shape.tokens()).collect();
        assert_eq!(tokens, [10, 10, 20, 20, 30, 30, 60, 60]);
    }
}
