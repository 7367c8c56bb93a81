//! Estimate of a mean from a few runs, with its confidence interval.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

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
