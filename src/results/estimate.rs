//! What a few runs say of the mean.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Part of the intervals that should hold the true mean.
const CONFIDENCE: f64 = 0.95;

/// A mean and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub mean: f64,
    /// Standard deviation of the sample (n - 1); none for a single value.
    pub deviation: Option<f64>,
    /// Half the width of the 95 % confidence interval of the mean by Student's t; none for a single value.
    pub half_interval: Option<f64>,
}

impl Estimate {
    /// The estimate from these values; none if there are none.
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
