//! Geometric median of updates by the smoothed Weiszfeld algorithm (RFA, Pillutla et al., arXiv 1912.13445, algorithm 2).

use super::changes::Changes;
use super::krum::squared_distance;

/// Approximates the point whose weighted sum of distances to all points is smallest. `smoothing` is the least distance that
/// counts. The iteration begins at a change of 0, which is the server's own model and no choice of an attacker.
///
/// Returns it with the factor on each point in the last iteration.
///
/// # Panics
/// Without an iteration.
pub fn geometric_median(changes: &Changes, smoothing: f64, iterations: u32) -> (Vec<f64>, Vec<f64>) {
    assert!(iterations > 0, "a geometric median is iterated");
    let weights = changes.weights();
    let mut center = vec![0.0; changes.coordinates()];
    let mut factors = vec![];
    for _ in 0..iterations {
        factors = distances_from(changes, &center)
            .iter()
            .zip(&weights)
            .map(|(distance, weight)| weight / distance.max(smoothing))
            .collect();
        let total: f64 = factors.iter().sum();
        factors.iter_mut().for_each(|factor| *factor /= total);
        center = weighted_sum(changes, &factors);
    }
    (center, factors)
}

/// Computes the L2 distance of each point from `center`.
pub fn distances_from(changes: &Changes, center: &[f64]) -> Vec<f64> {
    let sums = changes.sums(changes.count(), |block, sums| {
        for (sum, point) in sums.iter_mut().zip(block.points()) {
            *sum += squared_distance(point, &center[block.range.clone()]);
        }
    });
    sums.into_iter().map(f64::sqrt).collect()
}

/// Computes the sum of all points, each times its factor, in the order of the points.
pub fn weighted_sum(changes: &Changes, factors: &[f64]) -> Vec<f64> {
    let (sums, _) = changes.map(0, |block, sums, _| {
        for (point, factor) in block.points().zip(factors) {
            for (sum, value) in sums.iter_mut().zip(point) {
                *sum += factor * value;
            }
        }
    });
    sums
}
