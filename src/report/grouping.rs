//! Histograms, and groups of rows that are drawn as one.

use std::ops::Range;

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
