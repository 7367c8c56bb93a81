//! Rules that select updates by their distances from each other: Krum and Multi-Krum (Blanchard et al. 2017), and Bulyan
//! (El Mhamdi et al. 2018, arXiv 1802.07927).

use super::changes::Changes;
use super::coordinates::mean_around_median;

/// Computes the mean of the `selected` points with the smallest Krum scores: with one, Krum; with more, Multi-Krum.
///
/// Returns it with the factor on each point, 1 over their number or 0.
pub fn multi_krum(changes: &Changes, byzantine: usize, selected: usize) -> (Vec<f64>, Vec<f64>) {
    let distances = Distances::between(changes);
    let mut ranked = distances.ranked(&all(changes), byzantine);
    ranked.truncate(selected);
    let mut factors = vec![0.0; changes.count()];
    for &point in &ranked {
        factors[point] = 1.0 / ranked.len() as f64;
    }
    let (mean, _) = changes.map(0, |block, values, _| {
        for &point in &ranked {
            for (sum, value) in values.iter_mut().zip(block.of_point(point)) {
                *sum += value;
            }
        }
        values.iter_mut().for_each(|sum| *sum /= ranked.len() as f64);
    });
    (mean, factors)
}

/// Computes Bulyan over Krum: of n points with f Byzantine ones, n - 2f are selected one after another, each by Krum among
/// those that are left; then each coordinate is the mean of the n - 4f values closest to the median of the selected ones.
///
/// Returns it with the mean factor, over the coordinates, on each point's value.
pub fn bulyan(changes: &Changes, byzantine: usize) -> (Vec<f64>, Vec<f64>) {
    let count = changes.count();
    let distances = Distances::between(changes);
    let mut left = all(changes);
    let mut selected = Vec::with_capacity(count - 2 * byzantine);
    while selected.len() < count - 2 * byzantine {
        let best = distances.ranked(&left, byzantine)[0];
        left.retain(|&point| point != best);
        selected.push(best);
    }
    // In the order of the points, which decides between equal values.
    selected.sort_unstable();
    mean_around_median(changes, &selected, count - 4 * byzantine)
}

fn all(changes: &Changes) -> Vec<usize> {
    (0..changes.count()).collect()
}

/// Computes the largest squared L2 distance of two points; 0 for a single one.
pub fn largest_squared_distance(changes: &Changes) -> f64 {
    Distances::between(changes).squared.into_iter().fold(0.0, f64::max)
}

/// Squared L2 distances between all points, a symmetric matrix by rows.
struct Distances {
    squared: Vec<f64>,
    points: usize,
}

impl Distances {
    fn between(changes: &Changes) -> Self {
        let points = changes.count();
        let pairs: Vec<(usize, usize)> =
            (0..points).flat_map(|left| (left + 1..points).map(move |right| (left, right))).collect();
        let sums = changes.sums(pairs.len(), |block, sums| {
            for (sum, &(left, right)) in sums.iter_mut().zip(&pairs) {
                *sum += squared_distance(block.of_point(left), block.of_point(right));
            }
        });
        let mut squared = vec![0.0; points * points];
        for (&(left, right), sum) in pairs.iter().zip(sums) {
            squared[left * points + right] = sum;
            squared[right * points + left] = sum;
        }
        Self { squared, points }
    }

    /// Returns the points of `among` by ascending Krum score: the sum of the squared distances to the n - f - 2 nearest of
    /// the n points, or to the nearest one where that number is below 1, as at the end of Bulyan's selection. Points of
    /// equal score stay in their order.
    fn ranked(&self, among: &[usize], byzantine: usize) -> Vec<usize> {
        let nearest = among.len().saturating_sub(byzantine + 2).max(1);
        let mut scored: Vec<(f64, usize)> = Vec::with_capacity(among.len());
        for &point in among {
            let row = &self.squared[point * self.points..(point + 1) * self.points];
            let others = among.iter().filter(|&&other| other != point);
            let mut distances: Vec<f64> = others.map(|&other| row[other]).collect();
            distances.sort_unstable_by(f64::total_cmp);
            scored.push((distances.iter().take(nearest).sum(), point));
        }
        scored.sort_by(|left, right| left.0.total_cmp(&right.0));
        scored.into_iter().map(|(_, point)| point).collect()
    }
}

/// [value] -- Number of partial sums of a squared distance, which a processor adds up in parallel.
const LANES: usize = 8;

/// Computes the squared L2 distance of two vectors of one length.
pub fn squared_distance(left: &[f64], right: &[f64]) -> f64 {
    let left = left.chunks_exact(LANES);
    let right = right.chunks_exact(LANES);
    let rest = left.remainder().iter().zip(right.remainder());
    let rest: f64 = rest.map(|(left, right)| (left - right) * (left - right)).sum();
    let mut lanes = [0.0; LANES];
    for (left, right) in left.zip(right) {
        for lane in 0..LANES {
            let difference = left[lane] - right[lane];
            lanes[lane] += difference * difference;
        }
    }
    lanes.iter().sum::<f64>() + rest
}
