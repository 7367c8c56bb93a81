//! Descriptive statistics: mean, quantiles, the worst tenth, and the estimate of a mean from a few runs.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

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
    mean(&sorted[sorted.len() - worst_tenth(sorted.len())..])
}

/// Returns the number of values in the worst tenth of `count` values.
pub fn worst_tenth(count: usize) -> usize {
    count.div_ceil(10)
}

/// [1] -- Confidence level of the intervals.
const CONFIDENCE: f64 = 0.95;

/// Mean with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub mean: f64,
    /// Standard deviation of the sample (n - 1); `None` for a single value.
    pub deviation: Option<f64>,
    /// Half the width of the 95 % confidence interval of the mean by Student's t; `None` for a single value.
    pub half_interval: Option<f64>,
}

impl Estimate {
    /// Computes the estimate from these values; `None` if there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.collect();
        if values.is_empty() {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        if values.len() == 1 {
            return Some(Self { mean, deviation: None, half_interval: None });
        }
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0)).sqrt();
        // The interval is mean +- t(0.975; n - 1) s / sqrt(n).
        let students = StudentsT::new(0.0, 1.0, count - 1.0).expect("there are two values or more");
        let quantile = students.inverse_cdf(1.0 - (1.0 - CONFIDENCE) / 2.0);
        Some(Self { mean, deviation: Some(deviation), half_interval: Some(quantile * deviation / count.sqrt()) })
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

    /// Student's table: t(0.975; 2) = 4.3027.
    #[test]
    fn three_values_have_a_wide_interval() {
        let estimate = Estimate::of([1.0, 2.0, 3.0].into_iter()).expect("values");
        assert_eq!((estimate.mean, estimate.deviation), (2.0, Some(1.0)));
        let half = estimate.half_interval.expect("three values");
        assert!((half - 4.3027 / 3f64.sqrt()).abs() < 1e-4, "{half}");
        assert_eq!(Estimate::of([5.0].into_iter()).and_then(|estimate| estimate.half_interval), None);
        assert_eq!(Estimate::of(std::iter::empty()), None);
    }
}
