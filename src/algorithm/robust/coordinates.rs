//! Rules that treat each coordinate by itself: the median and the trimmed mean (Yin et al. 2018, arXiv 1803.01498), and the
//! mean around the median that Bulyan ends with.

use super::changes::{Changes, CoordinateBlock};

/// Value of a point at one coordinate.
type Entry = (f64, usize);

/// Computes the coordinate-wise median; between the two middle values of an even number, their mean.
///
/// Returns it with the share of coordinates at which each point's value is the median, or half of that where it is one of two.
pub fn median(changes: &Changes) -> (Vec<f64>, Vec<f64>) {
    by_coordinate(changes, &all(changes), |sorted| {
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { middle..middle + 1 } else { middle - 1..middle + 1 }
    })
}

/// Computes the coordinate-wise mean without the `trimmed` smallest and the `trimmed` largest values.
///
/// # Panics
/// If no value is left.
pub fn trimmed_mean(changes: &Changes, trimmed: usize) -> (Vec<f64>, Vec<f64>) {
    assert!(changes.count() > 2 * trimmed, "a trimmed mean has values");
    by_coordinate(changes, &all(changes), |sorted| trimmed..sorted.len() - trimmed)
}

/// Computes the coordinate-wise mean of the `kept` values that are closest to the median, over the points `selected`. As in
/// the paper on Bulyan, the median is one of the values: of two middle ones the smaller.
///
/// # Panics
/// If fewer points are selected than values are kept.
pub fn mean_around_median(changes: &Changes, selected: &[usize], kept: usize) -> (Vec<f64>, Vec<f64>) {
    assert!(selected.len() >= kept && kept > 0, "a mean around the median has values");
    by_coordinate(changes, selected, |sorted| {
        let center = (sorted.len() - 1) / 2;
        let median = sorted[center].0;
        // The values closest to the median are neighbors of it in the sorted order. Of two at the same distance, the smaller
        // one is taken first.
        let mut first = center;
        let mut end = center + 1;
        while end - first < kept {
            let takes_smaller = match (first.checked_sub(1), sorted.get(end)) {
                (Some(below), Some(above)) => median - sorted[below].0 <= above.0 - median,
                (below, _) => below.is_some(),
            };
            if takes_smaller { first -= 1 } else { end += 1 }
        }
        first..end
    })
}

fn all(changes: &Changes) -> Vec<usize> {
    (0..changes.count()).collect()
}

/// Computes at each coordinate the mean of those values of the points `selected` that `choose` takes of them in ascending
/// order. Returns it with the mean factor, over the coordinates, on each point's value.
fn by_coordinate(
    changes: &Changes,
    selected: &[usize],
    choose: impl Fn(&[Entry]) -> std::ops::Range<usize> + Sync,
) -> (Vec<f64>, Vec<f64>) {
    let (values, sums) = changes.map(changes.count(), |block: &CoordinateBlock, values, sums| {
        let mut sorted: Vec<Entry> = Vec::with_capacity(selected.len());
        for (at, value) in values.iter_mut().enumerate() {
            sorted.clear();
            sorted.extend(selected.iter().map(|&point| (block.of_point(point)[at], point)));
            // Equal values are in the order of the points.
            sorted.sort_unstable_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
            let chosen = &sorted[choose(&sorted)];
            let factor = 1.0 / chosen.len() as f64;
            *value = chosen.iter().map(|entry| entry.0).sum::<f64>() / chosen.len() as f64;
            for &(_, point) in chosen {
                sums[point] += factor;
            }
        }
    });
    let shares = sums.into_iter().map(|sum| sum / changes.coordinates() as f64).collect();
    (values, shares)
}
