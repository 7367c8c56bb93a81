//! RDP of cohorts of fixed size, drawn without replacement, where neighbors replace one client by another.

use super::numeric::{log_add, log_choose, log_gaussian_mean};

/// Returns the orders at which the bound is evaluated: integers, for which it is stated.
pub fn orders() -> Vec<f64> {
    (2..=64).chain([128, 256, 512, 1024]).map(f64::from).collect()
}

/// Order up to which the tighter form of each term is evaluated in addition to the simple one. It costs one integral
/// per term.
const TIGHT_ORDER_MAX: u32 = 256;

/// Returns the RDP at each of [`orders`] of one step: Gaussian noise of `noise_multiplier` times the sensitivity *under
/// replacement*, on the sum over a uniform cohort that is the fraction `rate` of all clients.
///
/// Follows theorem 27 of Wang, Balle and Kasiviswanathan 2019, with the central moments E[(p/q - 1)^l] of the Gaussian
/// as integrals, whose integrands are nowhere negative at even l. For discrete noise (`is_discrete`) these moments are
/// not known, and only the terms of theorem 9 are used, which need nothing but the divergences of the noise.
pub fn replace_one(rate: f64, noise_multiplier: f64, is_discrete: bool) -> Vec<f64> {
    assert!((0.0..=1.0).contains(&rate) && noise_multiplier >= 0.0);
    if noise_multiplier == 0.0 {
        return vec![f64::INFINITY; orders().len()];
    }
    let variance = noise_multiplier * noise_multiplier;
    if rate == 1.0 {
        return orders().iter().map(|order| order / (2.0 * variance)).collect();
    }
    let halves = if is_discrete { 0 } else { TIGHT_ORDER_MAX / 2 };
    let moments: Vec<f64> = (0..=halves).map(|half| log_central_moment(2 * half, noise_multiplier)).collect();
    orders().iter().map(|&order| log_moment(order as u32, rate, variance, &moments) / (order - 1.0)).collect()
}

/// Returns the logarithm of the bound on the moment of this order.
fn log_moment(order: u32, rate: f64, variance: f64, log_central: &[f64]) -> f64 {
    let log_rate = libm::log(rate);
    let mut log_sum = 0.0;
    // The moment is at most 1 + sum over i >= 2 of C(order, i) q^i times the smaller of two bounds on the i-th term:
    // simple, 2 E[(p/q)^i], and tight, 4 (exp(1/z^2) - 1) at i = 2 and 4 sqrt(B(2 floor(i/2)) B(2 ceil(i/2))) above it,
    // where B(l) is the l-th central moment.
    for i in 2..=order {
        // ln E[(p/q)^i] of the Gaussian itself.
        let plain = f64::from(i) * f64::from(i - 1) / (2.0 * variance);
        let simple = std::f64::consts::LN_2 + plain;
        let tight = if i == 2 {
            libm::log(4.0 * libm::expm1(1.0 / variance))
        } else if order as usize <= 2 * (log_central.len() - 1) {
            libm::log(4.0) + 0.5 * (log_central[(i / 2) as usize] + log_central[i.div_ceil(2) as usize])
        } else {
            f64::INFINITY
        };
        log_sum = log_add(log_sum, f64::from(i) * log_rate + log_choose(order, i) + simple.min(tight));
    }
    log_sum
}

/// Returns ln E[(exp((2x - 1) / 2z^2) - 1)^l] over x ~ N(0, z^2), for even l.
fn log_central_moment(l: u32, noise_multiplier: f64) -> f64 {
    let variance = noise_multiplier * noise_multiplier;
    log_gaussian_mean(noise_multiplier, f64::from(l), |x| {
        let loss = (2.0 * x - 1.0) / (2.0 * variance);
        let log_ratio = if loss > 600.0 { loss } else { libm::log(libm::expm1(loss).abs()) };
        // At x = 1/2 the logarithm is minus infinity, which is right for l > 0; at l = 0 the product would be NaN.
        if l == 0 { 0.0 } else { f64::from(l) * log_ratio }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn central_moments_are_alternating_sums() {
        // E[(p/q - 1)^2] = exp(1/z^2) - 1, and the fourth from its five terms.
        for noise in [0.7f64, 1.0, 4.0] {
            let w = 1.0 / (noise * noise);
            let second = libm::expm1(w);
            let fourth = libm::exp(6.0 * w) - 4.0 * libm::exp(3.0 * w) + 6.0 * libm::exp(w) - 3.0;
            assert!((libm::exp(log_central_moment(2, noise)) / second - 1.0).abs() < 1e-10);
            assert!((libm::exp(log_central_moment(4, noise)) / fourth - 1.0).abs() < 1e-8);
            assert!(log_central_moment(0, noise).abs() < 1e-12);
        }
    }

    #[test]
    fn a_cohort_of_all_is_the_plain_gaussian() {
        assert_eq!(replace_one(1.0, 2.0, false)[0], 0.25);
        assert!(replace_one(0.01, 0.0, false)[0].is_infinite());
        let discrete = replace_one(0.1, 2.0, true);
        assert!(discrete.iter().zip(replace_one(0.1, 2.0, false)).all(|(any, gaussian)| *any >= gaussian));
    }
}
