//! Distributions as tables of integer quantiles: a draw is an interpolation, the same on every platform.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The inverse distribution function at equally spaced probabilities from 0 to 1, in whatever unit its user states.
/// Copies share one table.
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
    /// A table of ascending quantiles, first the minimum, last the maximum; `None` if empty or not ascending.
    pub fn new(values: Vec<u64>) -> Option<Self> {
        let ascending = values.windows(2).all(|pair| pair[0] <= pair[1]);
        (!values.is_empty() && ascending).then(|| Self(values.into()))
    }

    /// The distribution of `median * exp(sigma * z)`, z standard normal, with its extreme 1/(2 points) cut off.
    ///
    /// The exponentials come from `libm`, whose results do not depend on the platform; each is rounded once.
    /// `None` unless `sigma` is within 0..=5 and `points` at least 2.
    pub fn log_normal(median: u64, sigma: f64, points: u32) -> Option<Self> {
        if !(0.0..=5.0).contains(&sigma) || points < 2 {
            return None;
        }
        let quantile = |i: u32| {
            let z = normal_quantile((f64::from(i) + 0.5) / f64::from(points));
            libm::rint(median as f64 * libm::exp(sigma * z)) as u64
        };
        Self::new((0..points).map(quantile).collect())
    }

    /// The value at probability `draw / 2^64`, linear between the table's points and rounded down.
    pub fn at(&self, draw: u64) -> u64 {
        let position = u128::from(draw) * (self.0.len() as u128 - 1);
        let (index, fraction) = ((position >> 64) as usize, position as u64);
        let low = self.0[index];
        let high = self.0[(index + 1).min(self.0.len() - 1)];
        low + ((u128::from(high - low) * u128::from(fraction)) >> 64) as u64
    }

    /// The smallest value.
    pub fn min(&self) -> u64 {
        self.0[0]
    }

    /// The greatest value.
    pub fn max(&self) -> u64 {
        self.0[self.0.len() - 1]
    }

    /// Whether the table keeps what [`Quantiles::new`] promises; a deserialised table may not.
    pub fn is_sound(&self) -> bool {
        !self.0.is_empty() && self.0.windows(2).all(|pair| pair[0] <= pair[1])
    }
}

/// The quantile of the standard normal distribution at `p`, by bisection on `erfc`: slow, exact to the last digits and
/// only run when a table is made.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
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
