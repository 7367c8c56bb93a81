//! Clipping of a client's whole update, so that no client moves a sum by more than a bound.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How an update is bounded in L2 norm over all its values.
///
/// # Examples
///
/// ```
/// use fedreplay::privacy::Clipping;
///
/// let clipping = Clipping::Fixed { norm: 1.0 };
/// let mut update = [3.0, 4.0];
/// let was_within = clipping.clip(&mut update, &[0..2], 1.0);
/// assert!(!was_within);
/// assert!((update[0] - 0.6).abs() < 1e-9 && (update[1] - 0.8).abs() < 1e-9);
/// assert!(update[0].hypot(update[1]) <= 1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Clipping {
    /// To this norm (McMahan et al. 2018, flat clipping).
    Fixed { norm: f64 },
    /// Each of L modules to norm / sqrt(L), which bounds the whole by the norm (per-layer clipping, ibid.).
    PerLayer { norm: f64 },
    /// To a norm that follows a quantile of the clients' norms (Andrew et al. 2021).
    Adaptive(Adaptive),
}

/// The rule of adaptive quantile clipping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adaptive {
    /// [1] The bound of the first round.
    pub initial_norm: f64,
    /// [1] Share of updates that shall not be clipped.
    pub quantile: f64,
    /// [1] How fast the bound follows: it is multiplied by exp(-rate (share - quantile)).
    pub rate: f64,
    /// [clients] Standard deviation of the noise on the number of unclipped updates.
    pub count_noise: f64,
}

/// What rounding may add to a norm that is computed in f64, taken off before: no clipped update exceeds its bound.
const SLACK: f64 = 1.0 - 1e-12;

impl Clipping {
    /// [1] The bound of a round, `learned` being what the round before left, if anything.
    pub fn norm(&self, learned: Option<f64>) -> f64 {
        match *self {
            Self::Fixed { norm } | Self::PerLayer { norm } => norm,
            Self::Adaptive(Adaptive { initial_norm, .. }) => learned.unwrap_or(initial_norm),
        }
    }

    /// Shortens `update` to at most `norm`, its modules lying at `modules`. Returns whether it was within already.
    pub fn clip(&self, update: &mut [f64], modules: &[Range<usize>], norm: f64) -> bool {
        match self {
            Self::Fixed { .. } | Self::Adaptive(_) => clip_to(update, norm),
            Self::PerLayer { .. } => {
                let bound = norm / libm::sqrt(modules.len() as f64);
                // Every module is clipped, also after the first that had to be.
                let within: Vec<bool> =
                    modules.iter().map(|module| clip_to(&mut update[module.clone()], bound)).collect();
                within.into_iter().all(|is_within| is_within)
            }
        }
    }

    /// [1] Noise on the sum of updates, in bounds, such that it and the count of unclipped updates together spend what
    /// `noise_multiplier` alone would (Andrew et al. 2021, theorem 1).
    pub fn noise_on_sum(&self, noise_multiplier: f64) -> f64 {
        match self {
            Self::Fixed { .. } | Self::PerLayer { .. } => noise_multiplier,
            Self::Adaptive(Adaptive { count_noise, .. }) => {
                let rest = 1.0 / (noise_multiplier * noise_multiplier) - 1.0 / (4.0 * count_noise * count_noise);
                assert!(rest > 0.0, "the noise on the count alone spends more than all is allowed to");
                1.0 / libm::sqrt(rest)
            }
        }
    }
}

impl Adaptive {
    /// The bound of the next round: `unclipped` of `reported` updates were within this round's, `standard_normal` is
    /// drawn for the count, and `expected` reports are what its share is taken of.
    ///
    /// Counted is a half more or less for each client, so that one client moves the count by a half.
    pub fn next_norm(&self, norm: f64, unclipped: usize, reported: usize, expected: f64, standard_normal: f64) -> f64 {
        let balance = unclipped as f64 - 0.5 * reported as f64;
        let share = (balance + self.count_noise * standard_normal) / expected + 0.5;
        norm * libm::exp(-self.rate * (share - self.quantile))
    }
}

fn clip_to(values: &mut [f64], norm: f64) -> bool {
    let found = l2(values);
    if found <= norm * SLACK {
        return true;
    }
    let factor = norm * SLACK / found;
    values.iter_mut().for_each(|value| *value *= factor);
    found <= norm
}

/// The L2 norm, without overflow for any finite values that an f32 can hold.
pub fn l2(values: &[f64]) -> f64 {
    libm::sqrt(values.iter().map(|value| value * value).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_noise_is_split_as_published() {
        let rule = Adaptive { initial_norm: 0.1, quantile: 0.5, rate: 0.2, count_noise: 5.0 };
        // z_delta = (z^-2 - (2 sigma_b)^-2)^-1/2.
        let found = Clipping::Adaptive(rule).noise_on_sum(1.0);
        assert!((found - 1.0 / (1.0f64 - 0.01).sqrt()).abs() < 1e-12);
        assert_eq!(Clipping::Fixed { norm: 3.0 }.noise_on_sum(0.7), 0.7);
    }

    #[test]
    fn the_bound_follows_the_quantile() {
        let rule = Adaptive { initial_norm: 0.1, quantile: 0.5, rate: 0.2, count_noise: 0.0 };
        let norms: Vec<f64> = (1..=100).map(|i| f64::from(i) / 10.0).collect();
        let mut bound = rule.initial_norm;
        for _ in 0..300 {
            let unclipped = norms.iter().filter(|&&norm| norm <= bound).count();
            bound = rule.next_norm(bound, unclipped, norms.len(), norms.len() as f64, 0.0);
        }
        assert!((bound - 5.0).abs() < 0.2, "{bound}");
    }
}
