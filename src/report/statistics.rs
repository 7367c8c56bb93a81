//! What many numbers come to: quantiles, the worst tenth, bins, and rows that are drawn together.

use std::ops::Range;

/// The quantile at `share` of sorted values, between two of them where it falls there (type 7 of Hyndman and Fan 1996).
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// The finite values in ascending order.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The mean; none of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The mean of the greatest tenth of sorted values, of at least one.
pub fn worst_decile(sorted: &[f64]) -> Option<f64> {
    mean(&sorted[sorted.len() - sorted.len().div_ceil(10)..])
}

/// How a few distributions fall into the same bins.
pub struct Bins {
    /// Where each bin begins, and where the last one ends.
    pub edges: Vec<f64>,
    /// A list of counts a distribution.
    pub counts: Vec<Vec<u64>>,
}

impl Bins {
    /// Bins of one width for all; whole numbers get bins of whole width. None if there is nothing to count.
    pub fn of(distributions: &[&[f64]], most: usize, whole: bool) -> Option<Self> {
        let all = || distributions.iter().flat_map(|values| values.iter().copied());
        let (least, greatest) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
        let (first, width, bins) = if whole {
            let span = greatest - least + 1.0;
            let width = (span / most as f64).ceil();
            (least, width, (span / width).ceil() as usize)
        } else if greatest > least {
            (least, (greatest - least) / most as f64, most)
        } else {
            (least - 0.5, 1.0, 1)
        };
        let bin = |value: f64| (((value - first) / width) as usize).min(bins - 1);
        let count = |values: &&[f64]| {
            let mut counts = vec![0; bins];
            values.iter().for_each(|&value| counts[bin(value)] += 1);
            counts
        };
        let edges = (0..=bins).map(|edge| first + width * edge as f64).collect();
        Some(Self { edges, counts: distributions.iter().map(count).collect() })
    }

    /// The middle of each bin.
    pub fn middles(&self) -> impl Iterator<Item = f64> {
        self.edges.windows(2).map(|edge| (edge[0] + edge[1]) / 2.0)
    }
}

/// Rows that are drawn as one, so that a long run stays light.
pub struct Groups {
    ranges: Vec<Range<usize>>,
    rows: usize,
}

/// Groups that are drawn at most.
const MOST_GROUPS: usize = 2000;

impl Groups {
    /// Groups of one size, but for the last; single rows where there are few.
    pub fn of(rows: usize) -> Self {
        let size = rows.div_ceil(MOST_GROUPS).max(1);
        Self { ranges: (0..rows).step_by(size).map(|first| first..(first + size).min(rows)).collect(), rows }
    }

    /// The last row of each group.
    pub fn last(&self) -> impl Iterator<Item = usize> + Clone {
        self.ranges.iter().map(|range| range.end - 1)
    }

    /// The sum over each group.
    pub fn sum(&self, value: impl Fn(usize) -> f64) -> impl Iterator<Item = f64> {
        self.ranges.iter().map(move |range| range.clone().map(&value).sum())
    }

    /// The rows of each group.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Says that rows are drawn together, where they are, and how.
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
