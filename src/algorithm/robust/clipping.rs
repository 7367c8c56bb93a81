//! Rules that bound how far one update moves the aggregate: norm bounding (Sun et al. 2019, arXiv 1911.07963) and centered
//! clipping (Karimireddy et al. 2021, arXiv 2012.10333).

use super::changes::Changes;
use super::geometric_median::{distances_from, weighted_sum};

/// Computes the weighted mean of the updates, of which longer ones than `bound` are shortened to it.
///
/// Returns it with the factor on each point.
pub fn norm_bounding(changes: &Changes, bound: f64) -> (Vec<f64>, Vec<f64>) {
    let norms = distances_from(changes, &vec![0.0; changes.coordinates()]);
    let weights = changes.weights();
    let factors: Vec<f64> = weights.iter().zip(norms).map(|(weight, norm)| weight * clip(norm, bound)).collect();
    (weighted_sum(changes, &factors), factors)
}

/// Moves `center` by the mean of the differences of all points from it, each shortened to `radius`, and repeats that
/// `iterations` times.
///
/// Returns it with the factor on each point. The rest to 1 is the factor on the center that it began with.
pub fn centered_clipping(
    changes: &Changes,
    mut center: Vec<f64>,
    radius: f64,
    iterations: u32,
) -> (Vec<f64>, Vec<f64>) {
    let count = changes.count() as f64;
    let mut factors = vec![0.0; changes.count()];
    for _ in 0..iterations {
        let distances = distances_from(changes, &center);
        let steps: Vec<f64> = distances.into_iter().map(|distance| clip(distance, radius) / count).collect();
        // center + sum of steps * (point - center) = (1 - sum of steps) * center + sum of steps * point
        let kept = 1.0 - steps.iter().sum::<f64>();
        let moved = weighted_sum(changes, &steps);
        for (value, moved) in center.iter_mut().zip(moved) {
            *value = kept * *value + moved;
        }
        for (factor, step) in factors.iter_mut().zip(&steps) {
            *factor = kept * *factor + step;
        }
    }
    (center, factors)
}

/// Returns the factor that shortens a vector of this length to `most`: 1 if it is not longer.
fn clip(length: f64, most: f64) -> f64 {
    if length > most { most / length } else { 1.0 }
}
