//! Rényi differential privacy: the sampled Gaussian mechanism, and conversion to (epsilon, delta).
//!
//! A mechanism satisfies RDP r at order a if the Rényi divergence of order a between its outputs on neighboring data
//! sets is at most r (Mironov 2017). Under composition, divergences add up.

use super::numeric::{log_add, log_choose, log_gaussian_mean};

/// Returns the orders that are tried: the union of those of dp-accounting and Opacus.
pub fn orders() -> Vec<f64> {
    let tenths = (11..110).map(|tenths| f64::from(tenths) / 10.0);
    let whole = (11..=64).chain([128, 256, 512, 1024]).map(f64::from);
    tenths.chain(whole).collect()
}

/// Returns the RDP at `order` of one step of the sampled Gaussian mechanism: noise of `noise_multiplier` times the
/// sensitivity on a sum over clients, each of which takes part with probability `rate`. Neighbors differ by one client
/// added or removed.
///
/// Follows section 3.3 of Mironov, Talwar and Zhang 2019: `ln A / (order - 1)` with A = E[(1 + u)^order] over x ~ N(0,
/// z^2) and u = q (exp((2x - 1) / 2z^2) - 1). Because E[u] = 0, A - 1 is the mean of (1 + u)^order - 1 - order u, which
/// is nowhere negative. Integrating this form loses no digits however small q is, at fractional orders too.
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

/// Returns ln((1 + u)^order - 1 - order u) for u = rate (exp(loss) - 1).
fn log_power_excess(order: f64, rate: f64, loss: f64) -> f64 {
    let u = rate * libm::expm1(loss);
    if u.abs() * order < 1e-2 {
        // For small u the two subtractions cancel nearly everything, so the binomial series is summed from its u^2 term
        // on: order (order - 1) / 2 * u^2 * (1 + (order - 2) u / 3 + ...). Ten terms give full precision.
        let mut term = 1.0;
        let mut sum = 1.0;
        for k in 3..12 {
            term *= u * (order - f64::from(k - 1)) / f64::from(k);
            sum += term;
        }
        return libm::log(order * (order - 1.0) / 2.0 * sum) + 2.0 * libm::log(u.abs());
    }
    // For large losses u overflows, but ln(1 + u) = ln(u) = loss + ln(rate) does not.
    let log_base = if loss > 600.0 { loss + libm::log(rate) } else { libm::log1p(u) };
    let log_power = order * log_base;
    if log_power > 600.0 {
        return log_power;
    }
    libm::log((libm::expm1(log_power) - order * u).max(0.0))
}

/// Returns the same as [`sampled_gaussian`] for the discrete Gaussian, at an integer order.
///
/// Follows theorem 5 of Zhu and Wang 2019, which holds for any mechanism whose divergences are at most the Gaussian's
/// `order / 2z^2`. Those of the discrete Gaussian are (Canonne, Kamath and Steinke 2020, theorem 4).
pub fn sampled_discrete_gaussian(rate: f64, noise_multiplier: f64, order: u32) -> f64 {
    assert!(order > 1 && (0.0..=1.0).contains(&rate) && noise_multiplier > 0.0);
    if rate == 0.0 || rate == 1.0 {
        return rate * gaussian(noise_multiplier, order);
    }
    let log_rate = libm::log(rate);
    let log_rest = libm::log1p(-rate);
    // The sum over l of C(order, l) (1 - q)^(order - l) q^l exp((l - 1) rdp(l)), in logarithms. The terms l = 0 and l =
    // 1 combine to (1 - q)^(order - 1) (1 + (order - 1) q); from l = 3 on, a factor of 3 makes up for the general
    // mechanism.
    let mut log_sum = f64::from(order - 1) * log_rest + libm::log1p(f64::from(order - 1) * rate);
    for l in 2..=order {
        let factor = if l == 2 { 0.0 } else { libm::log(3.0) };
        let counted = log_choose(order, l) + f64::from(order - l) * log_rest + f64::from(l) * log_rate;
        log_sum = log_add(log_sum, factor + counted + f64::from(l - 1) * gaussian(noise_multiplier, l));
    }
    log_sum.max(0.0) / f64::from(order - 1)
}

/// Returns the RDP of a Gaussian without sampling, `order / 2z^2`.
fn gaussian(noise_multiplier: f64, order: u32) -> f64 {
    f64::from(order) / (2.0 * noise_multiplier * noise_multiplier)
}

/// Returns the smallest epsilon at `delta` that follows from RDP `divergences` at `orders`.
///
/// Follows proposition 12 of Canonne, Kamath and Steinke 2020 (also Balle et al. 2020): r + ln(1 - 1/a) - ln(a delta) /
/// (a - 1). Where the bound sqrt(1 - exp(-r)) on total variation is within delta, epsilon is 0.
pub fn epsilon(orders: &[f64], divergences: &[f64], delta: f64) -> f64 {
    let mut least = f64::INFINITY;
    for (&order, &divergence) in orders.iter().zip(divergences) {
        // delta^2 > 1 - exp(-r): total variation alone is within delta.
        let epsilon = if delta * delta + libm::expm1(-divergence) > 0.0 {
            0.0
        } else {
            divergence + libm::log1p(-1.0 / order) - libm::log(delta * order) / (order - 1.0)
        };
        least = f64::min(least, epsilon);
    }
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
    fn the_bound_for_discrete_noise_is_above_continuous_noise() {
        for (rate, noise, order) in [(0.01, 1.0, 2), (0.1, 2.0, 8), (0.5, 4.0, 16), (1.0, 3.0, 5)] {
            let bound = sampled_discrete_gaussian(rate, noise, order);
            let tight = sampled_gaussian(rate, noise, f64::from(order));
            assert!(
                bound >= tight * (1.0 - 1e-9) && bound < 20.0 * tight,
                "{rate} {noise} {order}: {bound} over {tight}"
            );
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
