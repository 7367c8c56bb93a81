//! Descriptive statistics: quantiles, the worst tenth, histograms, and groups of rows that are drawn as one.

use std::ops::Range;

/// Returns the quantile at `share` of sorted values, with linear interpolation (type 7 of Hyndman and Fan 1996).
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    // Type 7 places the extremes at the shares 0 and 1, and the values between them at equal distances.
    let place = share * last as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    Some(below + (above - below) * place.fract())
}

/// Returns the finite values in ascending order.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Returns the mean. `None` if there are no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Returns the mean of the greatest tenth of sorted values, rounded up to at least one value.
pub fn worst_decile(sorted: &[f64]) -> Option<f64> {
    mean(&sorted[sorted.len() - sorted.len().div_ceil(10)..])
}

/// Histogram of several distributions over the same bins.
pub struct Bins {
    /// Lower edge of each bin, and the upper edge of the last one.
    pub edges: Vec<f64>,
    /// Counts of each distribution.
    pub counts: Vec<Vec<u64>>,
}

impl Bins {
    /// Counts values in at most `most` bins of equal width. If the values are `whole` numbers, the width is one too.
    /// `None` if there are no values.
    pub fn of(distributions: &[&[f64]], most: usize, whole: bool) -> Option<Self> {
        let values = distributions.iter().flat_map(|values| values.iter().copied());
        let least = values.clone().reduce(f64::min)?;
        let greatest = values.reduce(f64::max)?;
        let (first, width, bins) = if whole {
            // A bin of width w holds w whole numbers, so the span counts both ends.
            let span = greatest - least + 1.0;
            let width = (span / most as f64).ceil();
            (least, width, (span / width).ceil() as usize)
        } else if greatest > least {
            (least, (greatest - least) / most as f64, most)
        } else {
            // All values are equal: one bin around them.
            (least - 0.5, 1.0, 1)
        };
        let mut counts = Vec::new();
        for values in distributions {
            let mut of_bins = vec![0; bins];
            for &value in *values {
                // The greatest value is the upper edge of the last bin, which includes it.
                let bin = (((value - first) / width) as usize).min(bins - 1);
                of_bins[bin] += 1;
            }
            counts.push(of_bins);
        }
        let edges = (0..=bins).map(|edge| first + width * edge as f64).collect();
        Some(Self { edges, counts })
    }

    /// Returns the middle of each bin.
    pub fn middles(&self) -> impl Iterator<Item = f64> {
        self.edges.windows(2).map(|edge| (edge[0] + edge[1]) / 2.0)
    }
}

/// Consecutive rows that are drawn as one, which bounds the size of the page for long runs.
pub struct Groups {
    ranges: Vec<Range<usize>>,
    rows: usize,
}

/// Greatest number of groups.
const MOST_GROUPS: usize = 2000;

impl Groups {
    /// Divides rows into groups of equal size, except that the last may be smaller. If there are few rows, each is a
    /// group of its own.
    pub fn of(rows: usize) -> Self {
        let size = rows.div_ceil(MOST_GROUPS).max(1);
        Self { ranges: (0..rows).step_by(size).map(|first| first..(first + size).min(rows)).collect(), rows }
    }

    /// Returns the last row of each group.
    pub fn last(&self) -> impl Iterator<Item = usize> + Clone {
        self.ranges.iter().map(|range| range.end - 1)
    }

    /// Returns the sum of `value` over each group.
    pub fn sum(&self, value: impl Fn(usize) -> f64) -> impl Iterator<Item = f64> {
        self.ranges.iter().map(move |range| range.clone().map(&value).sum())
    }

    /// Returns the rows of each group.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Returns a note that says how groups are drawn. `None` if every row is drawn.
    pub fn note(&self, how: &str) -> Option<String> {
        let size = self.ranges.first().map_or(1, Range::len);
        (size > 1).then(|| format!("{} rounds are drawn in groups of {size}: {how}.", self.rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_the_worst_tenth() {
        let values = sorted([4.0, 1.0, f64::NAN, 3.0, 2.0]);
        assert_eq!(quantile(&values, 0.5), Some(2.5));
        assert_eq!((quantile(&values, 0.0), quantile(&values, 1.0)), (Some(1.0), Some(4.0)));
        assert_eq!(worst_decile(&values), Some(4.0));
        let twenty = sorted((1..=20).map(f64::from));
        assert_eq!(worst_decile(&twenty), Some(19.5));
        assert_eq!((quantile(&[], 0.5), worst_decile(&[]), mean(&[])), (None, None, None));
    }

    #[test]
    fn every_value_falls_into_one_bin() {
        for (values, whole) in [(vec![0.0, 1.0, 1.0, 7.0], true), (vec![0.5, 0.25, 2.0], false), (vec![3.0; 4], false)]
        {
            let bins = Bins::of(&[&values], 4, whole).expect("values");
            assert_eq!(bins.counts[0].iter().sum::<u64>(), values.len() as u64, "{values:?}");
            assert_eq!(bins.edges.len(), bins.counts[0].len() + 1);
        }
        assert!(Bins::of(&[&[]], 4, true).is_none());
    }

    #[test]
    fn groups_hold_every_row_once() {
        for rows in [0, 1, MOST_GROUPS, MOST_GROUPS + 1, 10 * MOST_GROUPS + 3] {
            let groups = Groups::of(rows);
            assert!(groups.ranges().len() <= MOST_GROUPS);
            assert_eq!(groups.sum(|_| 1.0).sum::<f64>(), rows as f64);
            assert_eq!(groups.last().last(), rows.checked_sub(1));
            assert_eq!(groups.note("x").is_some(), rows > MOST_GROUPS);
        }
    }
}
