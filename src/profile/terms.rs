//! Time of a micro-batch as a sum of terms, fitted to measured times by least squares.

use serde::{Deserialize, Serialize};

/// Coefficients of the time of a micro-batch of B rows of L tokens: `fixed + per_token B L + per_token_squared B L^2`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// [s]
    pub fixed_seconds: f64,
    /// [s/token]
    pub seconds_per_token: f64,
    /// [s/token^2]
    pub seconds_per_token_squared: f64,
    /// [1] -- Deviations of the fitted from the measured times, as parts of the latter.
    pub errors: RelativeErrors,
}

/// Sets of terms, by index, that a fit may keep. Smaller sets come first, and of equal size those that are more usual.
const SUBSETS: [&[usize]; 7] = [&[1], &[0], &[2], &[0, 1], &[1, 2], &[0, 2], &[0, 1, 2]];

/// [1] -- Decrease of the sum of squared relative errors that a further term must bring. Below it is rounding.
const LEAST_GAIN: f64 = 1e-12;

impl Terms {
    /// Fits coefficients of at least 0 to measured times [s] of micro-batches of (rows, length), so that the sum of squared relative errors
    /// is least.
    ///
    /// A least-squares solution with this bound is the solution without it on some of the terms (Lawson and Hanson, Solving Least Squares
    /// Problems, 1974, chapter 23), so it is the best of those on each set of terms that has no negative coefficient.
    pub(super) fn fit(times: &[(u32, u32, f64)]) -> Self {
        let mut best = [0.0; 3];
        let mut least = f64::INFINITY;
        for subset in SUBSETS {
            let Some(found) = least_squares(times, subset) else { continue };
            let squares = times.iter().map(|&time| relative_error(&found, time) * relative_error(&found, time)).sum();
            if found.iter().all(|&coefficient| coefficient >= 0.0) && squares < least - LEAST_GAIN {
                best = found;
                least = squares;
            }
        }
        let errors = times.iter().map(|&time| relative_error(&best, time).abs()).collect();
        let [fixed_seconds, seconds_per_token, seconds_per_token_squared] = best;
        let errors = RelativeErrors::of(errors).expect("there are times");
        Self { fixed_seconds, seconds_per_token, seconds_per_token_squared, errors }
    }

    /// [s] -- Returns the time of a micro-batch.
    pub fn seconds(&self, rows: u32, length: u64) -> f64 {
        let coefficients = [self.fixed_seconds, self.seconds_per_token, self.seconds_per_token_squared];
        sum(&coefficients, features(rows.into(), length as f64))
    }
}

fn features(rows: f64, length: f64) -> [f64; 3] {
    [1.0, rows * length, rows * length * length]
}

fn sum(coefficients: &[f64; 3], features: [f64; 3]) -> f64 {
    coefficients[0] * features[0] + coefficients[1] * features[1] + coefficients[2] * features[2]
}

fn relative_error(coefficients: &[f64; 3], (rows, length, seconds): (u32, u32, f64)) -> f64 {
    sum(coefficients, features(rows.into(), length.into())) / seconds - 1.0
}

/// Returns the coefficients of the terms in `subset` with the least sum of squared relative errors, and 0 for the others; `None` if the
/// times do not determine them.
fn least_squares(times: &[(u32, u32, f64)], subset: &[usize]) -> Option<[f64; 3]> {
    // Features divided by the time should add up to 1. Each is scaled by its greatest value, since they differ by many orders.
    let rows: Vec<[f64; 3]> = times
        .iter()
        .map(|&(rows, length, seconds)| features(rows.into(), length.into()).map(|x| x / seconds))
        .collect();
    let scales = [0, 1, 2].map(|term| rows.iter().fold(0.0, |greatest: f64, row| greatest.max(row[term])));
    // Normal equations, with the right-hand side in the last column, solved by Gauss-Jordan elimination.
    let count = subset.len();
    let mut equations = [[0.0; 4]; 3];
    for row in &rows {
        let scaled = [0, 1, 2].map(|term| row[term] / scales[term]);
        for (i, &term) in subset.iter().enumerate() {
            for (j, &other) in subset.iter().enumerate() {
                equations[i][j] += scaled[term] * scaled[other];
            }
            equations[i][3] += scaled[term];
        }
    }
    for column in 0..count {
        let pivot = equations[column][column];
        // After scaling, pivots are at most the number of times. One near 0 belongs to a term that the others make up.
        if pivot < 1e-9 {
            return None;
        }
        // The pivot's row is divided by the pivot, and its multiples clear the column in all other rows.
        let reduced = equations[column].map(|value| value / pivot);
        for (row, equation) in equations.iter_mut().enumerate().take(count) {
            let factor = equation[column];
            for (value, pivot_value) in equation.iter_mut().zip(reduced) {
                *value = if row == column { pivot_value } else { *value - factor * pivot_value };
            }
        }
    }
    let mut coefficients = [0.0; 3];
    for (equation, &term) in equations.iter().zip(subset) {
        coefficients[term] = equation[3] / scales[term];
    }
    Some(coefficients)
}

/// Sizes of relative errors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelativeErrors {
    /// [1]
    pub median: f64,
    /// [1]
    pub worst: f64,
}

impl RelativeErrors {
    /// Returns those of at least one error, none of them negative; `None` without errors.
    pub(super) fn of(mut errors: Vec<f64>) -> Option<Self> {
        errors.sort_by(f64::total_cmp);
        let worst = *errors.last()?;
        Some(Self { median: median(&errors), worst })
    }
}

/// Returns the median of ascending values, of which there is at least one: the mean of the two in the middle if their number is even.
pub(super) fn median(ascending: &[f64]) -> f64 {
    let middle = ascending.len() / 2;
    if ascending.len() % 2 == 1 {
        return ascending[middle];
    }
    (ascending[middle - 1] + ascending[middle]) / 2.0
}
