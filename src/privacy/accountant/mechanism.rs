//! Mechanisms with their definition of neighbors, and the epsilon that a number of steps of them spends.

use super::pld::{SampledMechanism, gaussian_epsilon};
use super::{fixed_size, rdp};

/// Method by which epsilon is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accountant {
    /// Privacy loss distributions; tight.
    #[default]
    Pld,
    /// Rényi differential privacy; simpler, and up to a quarter above the tight value.
    Rdp,
    /// Rényi differential privacy with bounds that hold for discrete Gaussian noise as well.
    Discrete,
}

/// Method that gave a value of epsilon. It is not always the requested accountant, because there are bounds that are less, exact or
/// the only ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpsilonMethod {
    /// Composed privacy loss distributions.
    LossDistributions,
    /// Rényi differential privacy.
    Renyi,
    /// Rényi differential privacy with bounds that hold for discrete Gaussian noise.
    RenyiDiscrete,
    /// The definition of privacy alone: epsilon is 0 before the first step, whatever the mechanism.
    NothingReleased,
    /// The definition of privacy alone: a sum without noise has no finite epsilon, whatever is sampled.
    NoNoise,
    /// The exact epsilon of a Gaussian mechanism, of which nothing is sampled.
    Gaussian,
    /// The exact epsilon of the Gaussian mechanism in which every client takes part in every step. It is an upper bound, because
    /// sampling never adds to what a step reveals.
    GaussianWithoutSampling,
}

impl EpsilonMethod {
    /// Returns the name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::LossDistributions => "pld",
            Self::Renyi => "rdp",
            Self::RenyiDiscrete => "rdp for discrete noise",
            Self::NothingReleased => "definition, as nothing was released",
            Self::NoNoise => "definition, as there is no noise",
            Self::Gaussian => "the exact Gaussian",
            Self::GaussianWithoutSampling => "the exact Gaussian without sampling, an upper bound",
        }
    }
}

/// Value of epsilon with the method that gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpsilonBound {
    /// [1] -- Infinite without noise.
    pub epsilon: f64,
    pub method: EpsilonMethod,
}

/// A Gaussian mechanism on a sum of updates that are clipped to one norm. Noise multipliers are in units of that norm.
///
/// # Examples
///
/// Google's dp_accounting gives epsilon 1.828 by privacy loss distributions and 2.101 by Rényi differential privacy for
/// a thousand steps in which each client takes part with probability 1 %:
///
/// ```
/// use fedreplay::privacy::accountant::{Accountant, Mechanism};
///
/// let mechanism = Mechanism::Poisson { noise_multiplier: 1.0, rate: 0.01 };
/// let pld = mechanism.epsilon(1000, 1e-5, Accountant::Pld);
/// let rdp = mechanism.epsilon(1000, 1e-5, Accountant::Rdp);
/// assert!((pld - 1.828).abs() < 0.001, "{pld}");
/// assert!((rdp - 2.101).abs() < 0.001, "{rdp}");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mechanism {
    /// Each client takes part in a step with probability `rate`, independently of the others. Neighbors differ by one
    /// client added or removed.
    Poisson { noise_multiplier: f64, rate: f64 },
    /// Each step samples a uniform cohort of `cohort` out of `clients`. Neighbors replace one client by another, which
    /// moves the sum by up to two clipping norms. Charged by RDP with amplification (Wang et al. 2019). Under
    /// [`Accountant::Pld`], charged by the exact Gaussian without amplification where that is less, as it is for large
    /// cohorts; this is valid because sampling never adds to what a step reveals.
    FixedSize { noise_multiplier: f64, clients: u32, cohort: u32 },
    /// No assumption on which clients take part. Neighbors replace one client by another, which moves each step in
    /// which that client counts by up to two clipping norms; `steps` is the number of steps in which one client counts.
    /// The value is exact under [`Accountant::Pld`] and [`Accountant::Rdp`].
    ReplaceOne { noise_multiplier: f64 },
}

impl Mechanism {
    /// Returns epsilon at `delta` after `steps` steps [1]; infinite without noise.
    pub fn epsilon(&self, steps: u64, delta: f64, accountant: Accountant) -> f64 {
        self.bound(steps, delta, accountant).epsilon
    }

    /// Returns epsilon at `delta` after `steps` steps with the method that gave it.
    pub fn bound(&self, steps: u64, delta: f64, accountant: Accountant) -> EpsilonBound {
        if steps == 0 {
            return EpsilonBound { epsilon: 0.0, method: EpsilonMethod::NothingReleased };
        }
        match *self {
            Self::Poisson { noise_multiplier, .. }
            | Self::FixedSize { noise_multiplier, .. }
            | Self::ReplaceOne { noise_multiplier }
                if noise_multiplier == 0.0 =>
            {
                EpsilonBound { epsilon: f64::INFINITY, method: EpsilonMethod::NoNoise }
            }
            Self::Poisson { noise_multiplier, rate } => poisson_bound(noise_multiplier, rate, steps, delta, accountant),
            Self::FixedSize { noise_multiplier, clients, cohort } => {
                let rate = f64::from(cohort) / f64::from(clients);
                // Replacement doubles the sensitivity, so the noise is half as many sensitivities.
                let is_discrete = accountant == Accountant::Discrete;
                let mut divergences = fixed_size::replace_one(rate, noise_multiplier / 2.0, is_discrete);
                for divergence in &mut divergences {
                    *divergence *= steps as f64;
                }
                let amplified = EpsilonBound {
                    epsilon: rdp::epsilon(&fixed_size::orders(), &divergences, delta),
                    method: if is_discrete { EpsilonMethod::RenyiDiscrete } else { EpsilonMethod::Renyi },
                };
                let unsampled = replace_one_epsilon(noise_multiplier, steps, delta);
                if accountant == Accountant::Pld && unsampled < amplified.epsilon {
                    return EpsilonBound { epsilon: unsampled, method: EpsilonMethod::GaussianWithoutSampling };
                }
                amplified
            }
            Self::ReplaceOne { noise_multiplier } if accountant == Accountant::Discrete => {
                // order / 2z^2 per step with the noise at z/2 sensitivities: 2 order / z^2.
                let orders = rdp::orders();
                let mut divergences = Vec::with_capacity(orders.len());
                for order in &orders {
                    divergences.push(order * 2.0 * steps as f64 / (noise_multiplier * noise_multiplier));
                }
                let epsilon = rdp::epsilon(&orders, &divergences, delta);
                EpsilonBound { epsilon, method: EpsilonMethod::RenyiDiscrete }
            }
            Self::ReplaceOne { noise_multiplier } => {
                let epsilon = replace_one_epsilon(noise_multiplier, steps, delta);
                EpsilonBound { epsilon, method: EpsilonMethod::Gaussian }
            }
        }
    }

    /// Returns the same mechanism with this noise multiplier.
    pub fn with_noise(self, noise_multiplier: f64) -> Self {
        match self {
            Self::Poisson { rate, .. } => Self::Poisson { noise_multiplier, rate },
            Self::FixedSize { clients, cohort, .. } => Self::FixedSize { noise_multiplier, clients, cohort },
            Self::ReplaceOne { .. } => Self::ReplaceOne { noise_multiplier },
        }
    }

    /// Describes which data sets count as neighbors.
    pub fn neighbours(&self) -> &'static str {
        match self {
            Self::Poisson { .. } => "one client added or removed",
            Self::FixedSize { .. } | Self::ReplaceOne { .. } => "one client replaced (sensitivity 2S)",
        }
    }
}

/// Returns the exact epsilon of `steps` Gaussian steps in which one client may be replaced.
fn replace_one_epsilon(noise_multiplier: f64, steps: u64, delta: f64) -> f64 {
    // n Gaussian steps of distance 2/z are one Gaussian of distance 2 sqrt(n) / z.
    gaussian_epsilon(2.0 * libm::sqrt(steps as f64) / noise_multiplier, delta)
}

/// Returns the epsilon of Poisson sampling.
fn poisson_bound(noise_multiplier: f64, rate: f64, steps: u64, delta: f64, accountant: Accountant) -> EpsilonBound {
    match accountant {
        Accountant::Pld => {
            let step = SampledMechanism { noise_multiplier, rate };
            let method = match step.is_within_grid() {
                true => EpsilonMethod::LossDistributions,
                false => EpsilonMethod::GaussianWithoutSampling,
            };
            EpsilonBound { epsilon: step.epsilon(steps, delta), method }
        }
        Accountant::Discrete => {
            let orders = fixed_size::orders();
            let mut divergences = Vec::with_capacity(orders.len());
            for order in &orders {
                let of_step = rdp::sampled_discrete_gaussian(rate, noise_multiplier, *order as u32);
                divergences.push(steps as f64 * of_step);
            }
            let epsilon = rdp::epsilon(&orders, &divergences, delta);
            EpsilonBound { epsilon, method: EpsilonMethod::RenyiDiscrete }
        }
        Accountant::Rdp => {
            let orders = rdp::orders();
            let mut divergences = Vec::with_capacity(orders.len());
            for order in &orders {
                divergences.push(steps as f64 * rdp::sampled_gaussian(rate, noise_multiplier, *order));
            }
            EpsilonBound { epsilon: rdp::epsilon(&orders, &divergences, delta), method: EpsilonMethod::Renyi }
        }
    }
}
