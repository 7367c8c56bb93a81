//! Distributions as tables of integer quantiles. Drawing is interpolation in integers, the same on every platform.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A quantile function at equally spaced probabilities from 0 to 1, in a unit that its user defines. Clones share one
/// table.
///
/// # Examples
///
/// ```
/// use fedreplay_sim::Quantiles;
///
/// // A slowdown with a median of 1 and a spread of 30 %, in units of 1e-9.
/// let slowdown = Quantiles::log_normal(1_000_000_000, 0.3, 101).expect("the spread is within 0 to 5");
/// assert_eq!(slowdown.at(1 << 63), 1_000_000_000);
/// assert!(slowdown.min() < 500_000_000 && slowdown.max() > 2_000_000_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantiles(Arc<[u64]>);

impl Quantiles {
    /// Returns a table of ascending quantiles, from the minimum to the maximum; `None` if empty or not ascending.
    pub fn new(values: Vec<u64>) -> Option<Self> {
        let ascending = values.windows(2).all(|pair| pair[0] <= pair[1]);
        (!values.is_empty() && ascending).then(|| Self(values.into()))
    }

    /// Returns the distribution of `median * exp(sigma * z)` for standard normal z, truncated by 1/(2 points) at either
    /// end.
    ///
    /// The exponentials come from `libm`, whose results do not depend on the platform; each is rounded once. Returns
    /// `None` unless `sigma` is within 0..=5 and `points` is at least 2.
    pub fn log_normal(median: u64, sigma: f64, points: u32) -> Option<Self> {
        if !(0.0..=5.0).contains(&sigma) || points < 2 {
            return None;
        }
        let mut values = Vec::with_capacity(points as usize);
        for i in 0..points {
            let z = normal_quantile((f64::from(i) + 0.5) / f64::from(points));
            values.push(libm::rint(median as f64 * libm::exp(sigma * z)) as u64);
        }
        Self::new(values)
    }

    /// Returns the value at probability `draw / 2^64`, interpolated linearly between the table's points and rounded
    /// down.
    pub fn at(&self, draw: u64) -> u64 {
        let position = u128::from(draw) * (self.0.len() as u128 - 1);
        // The position in the table as a fixed-point number with 64 fractional bits.
        let index = (position >> 64) as usize;
        let fraction = position as u64;
        let low = self.0[index];
        let high = self.0[(index + 1).min(self.0.len() - 1)];
        low + ((u128::from(high - low) * u128::from(fraction)) >> 64) as u64
    }

    /// Returns the smallest value.
    pub fn min(&self) -> u64 {
        self.0[0]
    }

    /// Returns the greatest value.
    pub fn max(&self) -> u64 {
        self.0[self.0.len() - 1]
    }

    /// Returns whether the table satisfies the invariants of [`Quantiles::new`]; a deserialized table may not.
    pub fn is_sound(&self) -> bool {
        !self.0.is_empty() && self.0.windows(2).all(|pair| pair[0] <= pair[1])
    }
}

/// Returns the quantile of the standard normal distribution at `p`, by bisection on `erfc`. It is slow, exact to the
/// last digits between -9 and 9, and meant for tables and single numbers.
pub fn normal_quantile(p: f64) -> f64 {
    let mut low = -9.0;
    let mut high = 9.0;
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if 0.5 * libm::erfc(-middle * std::f64::consts::FRAC_1_SQRT_2) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_interpolate() {
        let table = Quantiles::new(vec![0, 100, 300]).unwrap();
        let half = 1 << 63;
        assert_eq!([0, half / 2, half, half + half / 2, u64::MAX].map(|u| table.at(u)), [0, 50, 100, 200, 299]);
        assert_eq!(Quantiles::new(vec![7]).unwrap().at(u64::MAX), 7);
        assert_eq!(Quantiles::new(vec![2, 1]), None);
        assert_eq!(Quantiles::new(vec![]), None);
    }

    #[test]
    fn a_log_normal_table_has_its_median_and_spread() {
        let table = Quantiles::log_normal(1_000_000_000, 0.5, 1024).unwrap();
        let median = table.at(1 << 63);
        assert!(median.abs_diff(1_000_000_000) < 1_000, "{median}");
        // One standard deviation up: probability 0.841344746, factor e^0.5 = 1.648721.
        let upper = table.at((0.841_344_746 * 2f64.powi(64)) as u64);
        assert!(upper.abs_diff(1_648_721_270) < 3_000_000, "{upper}");
    }
}
