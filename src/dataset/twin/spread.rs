//! Integers with a given sum and standard deviation, for client sizes and text lengths.

/// Returns `count` integers of at least 1 in ascending order, with the given sum and approximately the given population
/// standard deviation.
///
/// They are quantiles of a log-logistic distribution, x = (p / (1 - p))^s, with a fitted shape s, scaled to the sum and
/// rounded by the largest-remainder method. The deviation is met up to rounding, as far as it is attainable at all.
///
/// # Panics
/// If the sum is below the count.
pub fn spread(count: usize, sum: u64, deviation: f64) -> Vec<u64> {
    assert!(sum >= count as u64, "{count} numbers of at least 1 cannot sum to {sum}");
    // The deviation grows with the shape, so bisection finds the shape.
    let mut low = 0.0;
    let mut high = 4.0;
    for _ in 0..48 {
        let middle = 0.5 * (low + high);
        if deviation_of(&with_shape(count, sum, middle)) < deviation {
            low = middle;
        } else {
            high = middle;
        }
    }
    with_shape(count, sum, 0.5 * (low + high))
}

fn with_shape(count: usize, sum: u64, shape: f64) -> Vec<u64> {
    // Quantiles at p = (k + 1/2) / count: x = (p / (1 - p))^s = exp(s ln(p / (1 - p))).
    let mut raw = Vec::with_capacity(count);
    for index in 0..count {
        let p = (index as f64 + 0.5) / count as f64;
        raw.push(libm::exp(shape * libm::log(p / (1.0 - p))));
    }
    // Every number gets 1; the rest of the sum is divided in proportion to the quantiles and rounded down.
    let rest = (sum - count as u64) as f64;
    let scale = rest / raw.iter().sum::<f64>();
    let mut values: Vec<u64> = raw.iter().map(|value| 1 + (value * scale) as u64).collect();
    // What rounding took away goes to the largest remainders, the lower index first where they are equal.
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
