//! Clipping of a client's whole update, which bounds how far one client can move a sum.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The way in which the L2 norm of an update, over all its values, is bounded.
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
    /// Flat clipping to this norm (McMahan et al. 2018).
    Fixed { norm: f64 },
    /// Per-layer clipping (ibid.): each of L modules to norm / sqrt(L), which bounds the whole by the norm.
    PerLayer { norm: f64 },
    /// Clipping to a norm that tracks a quantile of the clients' update norms (Andrew et al. 2021).
    Adaptive(AdaptiveClipping),
}

/// Settings of adaptive quantile clipping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveClipping {
    /// [1] -- Bound of the first round.
    pub initial_norm: f64,
    /// [1] -- Target share of updates that are not clipped.
    pub quantile: f64,
    /// [1] -- Learning rate of the bound, which is multiplied by exp(-rate (share - quantile)) after each round.
    pub rate: f64,
    /// [client] -- Standard deviation of the noise on the number of unclipped updates.
    pub count_noise: f64,
}

/// Safety factor on the bound that absorbs the rounding of norms in f64: no clipped update exceeds its bound.
const SLACK: f64 = 1.0 - 1e-12;

impl Clipping {
    /// Returns the bound of a round [1]. `learned` is the bound that the previous round returned, if it did.
    pub fn norm(&self, learned: Option<f64>) -> f64 {
        match *self {
            Self::Fixed { norm } | Self::PerLayer { norm } => norm,
            Self::Adaptive(AdaptiveClipping { initial_norm, .. }) => learned.unwrap_or(initial_norm),
        }
    }

    /// Scales `update` in place to at most `norm`; `modules` are the ranges of its modules. Returns whether it was
    /// within the bound before.
    pub fn clip(&self, update: &mut [f64], modules: &[Range<usize>], norm: f64) -> bool {
        match self {
            Self::Fixed { .. } | Self::Adaptive(_) => clip_to(update, norm),
            Self::PerLayer { .. } => {
                let bound = norm / libm::sqrt(modules.len() as f64);
                // Collected before `all`, which would stop at the first clipped module and leave the rest unclipped.
                let within: Vec<bool> =
                    modules.iter().map(|module| clip_to(&mut update[module.clone()], bound)).collect();
                within.into_iter().all(|is_within| is_within)
            }
        }
    }

    /// Returns the noise multiplier for the sum of updates, such that the noised sum and the noised count of unclipped
    /// updates together spend as much privacy as `noise_multiplier` alone (Andrew et al. 2021, theorem 1).
    ///
    /// # Panics
    /// If the noise on the count alone spends more than that.
    pub fn noise_on_sum(&self, noise_multiplier: f64) -> f64 {
        match self {
            Self::Fixed { .. } | Self::PerLayer { .. } => noise_multiplier,
            Self::Adaptive(AdaptiveClipping { count_noise, .. }) => {
                // 1 / z^2 = 1 / z_sum^2 + 1 / (2 sigma_b)^2, solved for z_sum.
                let rest = 1.0 / (noise_multiplier * noise_multiplier) - 1.0 / (4.0 * count_noise * count_noise);
                assert!(rest > 0.0, "the noise on the count alone spends more than all is allowed to");
                1.0 / libm::sqrt(rest)
            }
        }
    }
}

impl AdaptiveClipping {
    /// Returns the bound of the next round. `unclipped` of `reported` updates were within the bound of this round,
    /// `standard_normal` is the noise drawn for the count, and `expected` is the number of reports of which the share
    /// is taken.
    pub fn next_norm(&self, norm: f64, unclipped: usize, reported: usize, expected: f64, standard_normal: f64) -> f64 {
        // Each client adds +1/2 (unclipped) or -1/2 (clipped), so that adding or removing one moves the count by 1/2
        // and not 1.
        let balance = unclipped as f64 - 0.5 * reported as f64;
        let share = (balance + self.count_noise * standard_normal) / expected + 0.5;
        norm * libm::exp(-self.rate * (share - self.quantile))
    }
}

/// Scales `values` in place to a norm of at most `norm`. Returns whether they were within it before.
fn clip_to(values: &mut [f64], norm: f64) -> bool {
    let found = l2(values);
    if found <= norm * SLACK {
        return true;
    }
    let factor = norm * SLACK / found;
    for value in values {
        *value *= factor;
    }
    found <= norm
}

/// Returns the L2 norm, without overflow for any finite values that fit in an f32.
pub fn l2(values: &[f64]) -> f64 {
    libm::sqrt(values.iter().map(|value| value * value).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_noise_is_split_as_published() {
        let rule = AdaptiveClipping { initial_norm: 0.1, quantile: 0.5, rate: 0.2, count_noise: 5.0 };
        // z_delta = (z^-2 - (2 sigma_b)^-2)^-1/2.
        let found = Clipping::Adaptive(rule).noise_on_sum(1.0);
        assert!((found - 1.0 / (1.0f64 - 0.01).sqrt()).abs() < 1e-12);
        assert_eq!(Clipping::Fixed { norm: 3.0 }.noise_on_sum(0.7), 0.7);
    }

    #[test]
    fn the_bound_follows_the_quantile() {
        let rule = AdaptiveClipping { initial_norm: 0.1, quantile: 0.5, rate: 0.2, count_noise: 0.0 };
        let norms: Vec<f64> = (1..=100).map(|i| f64::from(i) / 10.0).collect();
        let mut bound = rule.initial_norm;
        for _ in 0..300 {
            let unclipped = norms.iter().filter(|&&norm| norm <= bound).count();
            bound = rule.next_norm(bound, unclipped, norms.len(), norms.len() as f64, 0.0);
        }
        assert!((bound - 5.0).abs() < 0.2, "{bound}");
    }
}
