//! Rényi differential privacy: the sampled Gaussian mechanism, and conversion to (epsilon, delta).
//!
//! A mechanism has RDP r at order a if the Rényi divergence of order a between its outputs on neighbours is at most r
//! (Mironov 2017). Divergences of composed mechanisms add up.

use super::numeric::{log_add, log_gaussian_mean};

/// The orders that are tried: those of dp-accounting and Opacus together.
pub fn orders() -> Vec<f64> {
    let tenths = (11..110).map(|tenths| f64::from(tenths) / 10.0);
    let whole = (11..=64).chain([128, 256, 512, 1024]).map(f64::from);
    tenths.chain(whole).collect()
}

/// RDP at `order` of one step: a Gaussian of `noise_multiplier` times the sensitivity on the sum over clients of which
/// each takes part with probability `rate`; neighbours differ by one client more or less.
///
/// Section 3.3 of Mironov, Talwar and Zhang 2019: `ln A / (order - 1)` with A = E[(1 + u)^order] over x ~ N(0, z^2) and
/// u = q (exp((2x - 1) / 2z^2) - 1). As E[u] = 0, A - 1 is the mean of (1 + u)^order - 1 - order u, which is nowhere
/// negative: integrated as it stands, no digit is lost however small q is, at whole orders as at others.
pub fn sampled_gaussian(rate: f64, noise_multiplier: f64, order: f64) -> f64 {
    assert!(order > 1.0 && (0.0..=1.0).contains(&rate) && noise_multiplier >= 0.0);
    if rate == 0.0 {
        return 0.0;
    }
    if noise_multiplier == 0.0 {
        return f64::INFINITY;
    }
    let variance = noise_multiplier * noise_multiplier;
    if rate == 1.0 {
        return order / (2.0 * variance);
    }
    let log_excess = log_gaussian_mean(noise_multiplier, order, |x| {
        log_power_excess(order, rate, (2.0 * x - 1.0) / (2.0 * variance))
    });
    log_add(0.0, log_excess) / (order - 1.0)
}

/// ln((1 + u)^order - 1 - order u) for u = rate (exp(loss) - 1).
fn log_power_excess(order: f64, rate: f64, loss: f64) -> f64 {
    let u = rate * libm::expm1(loss);
    if u.abs() * order < 1e-2 {
        // The binomial series from its second term on, as far as it changes anything.
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 3..12 {
            term *= u * (order - f64::from(k - 1)) / f64::from(k);
            sum += term;
        }
        return libm::log(order * (order - 1.0) / 2.0 * sum) + 2.0 * libm::log(u.abs());
    }
    // Large losses overflow u, not its logarithm.
    let log_base = if loss > 600.0 { loss + libm::log(rate) } else { libm::log1p(u) };
    let log_power = order * log_base;
    if log_power > 600.0 {
        return log_power;
    }
    libm::log((libm::expm1(log_power) - order * u).max(0.0))
}

/// The least epsilon at `delta` that follows from RDP `divergences` at `orders`.
///
/// Proposition 12 of Canonne, Kamath and Steinke 2020 (also Balle et al. 2020): r + ln(1 - 1/a) - ln(a delta) / (a - 1).
/// Where total variation alone is within delta, by sqrt(1 - exp(-r)), epsilon is 0.
pub fn epsilon(orders: &[f64], divergences: &[f64], delta: f64) -> f64 {
    let one = |(&order, &divergence): (&f64, &f64)| {
        if delta * delta + libm::expm1(-divergence) > 0.0 {
            return 0.0;
        }
        divergence + libm::log1p(-1.0 / order) - libm::log(delta * order) / (order - 1.0)
    };
    let least = orders.iter().zip(divergences).map(one).fold(f64::INFINITY, f64::min);
    least.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_steps_are_the_published_integrals() {
        // Forty-digit quadrature.
        for (rate, noise, order, expected) in [
            (0.01, 1.0, 2.0, 1.71813422075e-4),
            (0.01, 1.0, 4.0, 3.63154048911e-4),
            (0.01, 1.0, 8.0, 8.93643907606e-4),
            (0.01, 1.0, 16.0, 3.0878507837),
            (0.01, 1.0, 32.0, 11.246275937),
            (0.1, 2.0, 2.0, 2.83622826626e-3),
            (0.1, 2.0, 8.0, 1.37254301032e-2),
            (0.1, 2.0, 32.0, 1.62720230102),
            (0.05, 1.0, 8.0, 0.601268913989),
            (0.02, 0.7, 2.0, 2.675174452e-3),
            (0.02, 0.7, 8.0, 3.69241688902),
            (0.1, 1.0, 2.8, 0.0281672),
        ] {
            let found = sampled_gaussian(rate, noise, order);
            let digits = if order.fract() == 0.0 { 1e-9 } else { 3e-6 };
            assert!((found / expected - 1.0).abs() < digits, "{rate} {noise} {order}: {found} against {expected}");
        }
    }

    #[test]
    fn a_whole_order_is_its_binomial_sum() {
        // A at order 2 is 1 + q^2 (exp(1/z^2) - 1).
        for (rate, noise) in [(1e-4f64, 20.0f64), (1e-4, 0.3), (0.5, 1.0), (0.999, 3.0)] {
            let expected = libm::log1p(rate * rate * libm::expm1(1.0 / (noise * noise)));
            let found = sampled_gaussian(rate, noise, 2.0);
            assert!((found / expected - 1.0).abs() < 1e-10, "{rate} {noise}: {found} against {expected}");
        }
    }

    #[test]
    fn more_of_anything_that_reveals_spends_more() {
        let spent = |rate, noise, order| sampled_gaussian(rate, noise, order);
        assert!(spent(0.1, 1.0, 3.0) < spent(0.2, 1.0, 3.0));
        assert!(spent(0.1, 1.0, 3.0) < spent(0.1, 0.9, 3.0));
        assert!(spent(0.1, 1.0, 3.0) < spent(0.1, 1.0, 3.1));
        assert!(spent(0.1, 0.3, 1024.0).is_finite());
        assert_eq!(spent(0.1, 0.0, 2.0), f64::INFINITY);
        assert_eq!(spent(0.0, 0.0, 2.0), 0.0);
    }
}
