//! Descriptive statistics: mean, quantiles and the worst tenth.

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
}
