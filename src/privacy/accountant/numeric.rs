//! Numerical functions shared by the accountants: normal tails, sums of logarithms, and integrals against a Gaussian.
//!
//! Everything goes through `libm`, whose pure-Rust functions give the same bits on every platform, because the privacy
//! that a run has spent is part of its digest.

use std::f64::consts::FRAC_1_SQRT_2;

/// Returns P(Z <= x) of a standard normal.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// Returns P(a < Z <= b) of a standard normal, from the tail in which both probabilities are small, which keeps the
/// relative error small.
pub fn normal_mass(a: f64, b: f64) -> f64 {
    if a > 0.0 { normal_cdf(-a) - normal_cdf(-b) } else { normal_cdf(b) - normal_cdf(a) }
}

/// Returns ln(exp(a) + exp(b)).
pub fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// Returns the logarithm of the binomial coefficient.
pub fn log_choose(n: u32, k: u32) -> f64 {
    log_factorial(n) - log_factorial(k) - log_factorial(n - k)
}

/// Returns ln n!.
fn log_factorial(n: u32) -> f64 {
    libm::lgamma(f64::from(n) + 1.0)
}

/// Returns ln E[exp(f(x))] over x ~ N(0, sigma^2), for f whose mass lies within twelve sigma of [0, `reach`].
///
/// The trapezoidal rule converges faster than any power of its step on a function that is analytic in a strip around
/// the real line. The integrands of the accountants are analytic within pi sigma^2, which sets the step.
pub fn log_gaussian_mean(sigma: f64, reach: f64, f: impl Fn(f64) -> f64) -> f64 {
    let step = (sigma / 8.0).min(sigma * sigma / 6.0);
    let first = (-12.0 * sigma / step).floor() as i64;
    let last = ((reach + 12.0 * sigma) / step).ceil() as i64;
    // Logarithms of the integrand, without the constant of the density.
    let mut terms = Vec::new();
    for i in first..=last {
        let x = i as f64 * step;
        terms.push(-x * x / (2.0 * sigma * sigma) + f(x));
    }
    // Log-sum-exp: the greatest term is taken out before exponentials are summed.
    let greatest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if greatest == f64::NEG_INFINITY {
        return greatest;
    }
    let sum: f64 = terms.iter().map(|term| libm::exp(term - greatest)).sum();
    greatest + libm::log(sum * step / (sigma * libm::sqrt(2.0 * std::f64::consts::PI)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integral_of_a_tilted_gaussian_is_its_closed_form() {
        for (sigma, order) in [(0.3, 2.0), (1.0, 7.5), (20.0, 64.0), (0.5, 300.0)] {
            let tilt = |x: f64| order * (2.0 * x - 1.0) / (2.0 * sigma * sigma);
            let found = log_gaussian_mean(sigma, order, tilt);
            let expected = order * (order - 1.0) / (2.0 * sigma * sigma);
            assert!((found / expected - 1.0).abs() < 1e-12, "{sigma} {order}: {found} against {expected}");
        }
    }

    #[test]
    fn tails_keep_their_digits() {
        // Mills' ratio: P(Z > 8), and the mass between 8 and 9.
        assert!((normal_cdf(-8.0) / 6.220_960_574_271_786e-16 - 1.0).abs() < 1e-12);
        assert!((normal_mass(8.0, 9.0) / normal_mass(-9.0, -8.0) - 1.0).abs() < 1e-14);
        assert!((log_choose(10, 3) - 120f64.ln()).abs() < 1e-12);
        assert_eq!(log_add(f64::NEG_INFINITY, 1.0), 1.0);
    }
}
