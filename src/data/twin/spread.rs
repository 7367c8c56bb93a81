//! Whole numbers with a given sum and a given deviation: sizes of clients, lengths of texts.

/// `count` numbers of at least 1 in ascending order, with this sum and about this population deviation.
///
/// They are quantiles of a log-logistic law, x = (p / (1 - p))^s, whose shape s is fitted, scaled to the sum and rounded
/// by largest remainder. The deviation is missed by no more than rounding, as long as it can be had at all.
///
/// # Panics
/// If the sum is below the count.
pub fn spread(count: usize, sum: u64, deviation: f64) -> Vec<u64> {
    assert!(sum >= count as u64, "{count} numbers of at least 1 cannot sum to {sum}");
    let (mut low, mut high) = (0.0, 4.0);
    for _ in 0..48 {
        let middle = 0.5 * (low + high);
        match deviation_of(&with_shape(count, sum, middle)) < deviation {
            true => low = middle,
            false => high = middle,
        }
    }
    with_shape(count, sum, 0.5 * (low + high))
}

fn with_shape(count: usize, sum: u64, shape: f64) -> Vec<u64> {
    let quantile = |index: usize| {
        let p = (index as f64 + 0.5) / count as f64;
        libm::exp(shape * libm::log(p / (1.0 - p)))
    };
    let raw: Vec<f64> = (0..count).map(quantile).collect();
    // Each has its 1; the rest of the sum is shared out in proportion.
    let rest = (sum - count as u64) as f64;
    let scale = rest / raw.iter().sum::<f64>();
    let mut values: Vec<u64> = raw.iter().map(|value| 1 + (value * scale) as u64).collect();
    let missing = sum - values.iter().sum::<u64>().min(sum);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| (raw[b] * scale).fract().total_cmp(&(raw[a] * scale).fract()).then(a.cmp(&b)));
    for &index in order.iter().cycle().take(missing as usize) {
        values[index] += 1;
    }
    values.sort_unstable();
    values
}

fn deviation_of(values: &[u64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<u64>() as f64 / count;
    (values.iter().map(|&value| (value as f64 - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_deviations_near() {
        for (count, sum, deviation) in
            [(237, 6_166, 33.0), (747, 9_508, 21.0), (100, 52_703, 477.0), (9_508, 656_052, 124.0)]
        {
            let values = spread(count, sum, deviation);
            assert_eq!((values.len(), values.iter().sum::<u64>()), (count, sum));
            assert!(values[0] >= 1);
            let found = deviation_of(&values);
            assert!((found / deviation - 1.0).abs() < 0.02, "{found} where {deviation} was wanted");
        }
    }
}
