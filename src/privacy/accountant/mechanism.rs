//! What is charged: a mechanism with the neighbours that it protects, and the epsilon of so many of its steps.

use super::pld::{Sampled, gaussian_epsilon};
use super::{fixed_size, rdp};

/// How epsilon is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accountant {
    /// Privacy loss distributions: tight.
    #[default]
    Pld,
    /// Rényi differential privacy: simpler, and up to a quarter above.
    Rdp,
    /// Rényi differential privacy by bounds that hold for discrete Gaussian noise too.
    Discrete,
}

/// A Gaussian mechanism on a sum of updates clipped to one norm. Noise multipliers are in clipping norms.
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
    /// Each client takes part in a step with probability `rate`, whatever others do; neighbours differ by one client more
    /// or less.
    Poisson { noise_multiplier: f64, rate: f64 },
    /// A uniform cohort of `cohort` out of `clients` in every step; neighbours replace one client by another, which
    /// moves the sum by up to two clipping norms. Charged by RDP with amplification (Wang et al. 2019); under
    /// [`Accountant::Pld`] by the exact Gaussian without it where that is less, as it is for large cohorts: sampling
    /// never adds to what a step reveals.
    FixedSize { noise_multiplier: f64, clients: u32, cohort: u32 },
    /// No assumption on who takes part. Neighbours replace one client by another, which moves each of the steps in
    /// which that client counts by up to two clipping norms; `steps` then are the steps in which one client counts.
    /// Exact, whichever accountant is asked for.
    ReplaceOne { noise_multiplier: f64 },
}

impl Mechanism {
    /// [1] Epsilon at `delta` after `steps` steps; infinite without noise.
    pub fn epsilon(&self, steps: u64, delta: f64, accountant: Accountant) -> f64 {
        if steps == 0 {
            return 0.0;
        }
        match *self {
            Self::Poisson { noise_multiplier, .. }
            | Self::FixedSize { noise_multiplier, .. }
            | Self::ReplaceOne { noise_multiplier }
                if noise_multiplier == 0.0 =>
            {
                f64::INFINITY
            }
            Self::Poisson { noise_multiplier, rate } => match accountant {
                Accountant::Pld => Sampled { noise_multiplier, rate }.epsilon(steps, delta),
                Accountant::Discrete => {
                    let one = |&order: &f64| {
                        steps as f64 * rdp::sampled_discrete_gaussian(rate, noise_multiplier, order as u32)
                    };
                    let orders = fixed_size::orders();
                    rdp::epsilon(&orders, &orders.iter().map(one).collect::<Vec<_>>(), delta)
                }
                Accountant::Rdp => {
                    let orders = rdp::orders();
                    let one = |&order: &f64| steps as f64 * rdp::sampled_gaussian(rate, noise_multiplier, order);
                    rdp::epsilon(&orders, &orders.iter().map(one).collect::<Vec<_>>(), delta)
                }
            },
            Self::FixedSize { noise_multiplier, clients, cohort } => {
                let rate = f64::from(cohort) / f64::from(clients);
                let one = fixed_size::replace_one(rate, noise_multiplier / 2.0, accountant == Accountant::Discrete);
                let all: Vec<f64> = one.into_iter().map(|divergence| steps as f64 * divergence).collect();
                let amplified = rdp::epsilon(&fixed_size::orders(), &all, delta);
                match accountant {
                    Accountant::Pld => {
                        amplified.min(Self::ReplaceOne { noise_multiplier }.epsilon(steps, delta, accountant))
                    }
                    Accountant::Rdp | Accountant::Discrete => amplified,
                }
            }
            Self::ReplaceOne { noise_multiplier } if accountant == Accountant::Discrete => {
                let one = |order: &f64| order * 2.0 * steps as f64 / (noise_multiplier * noise_multiplier);
                rdp::epsilon(&rdp::orders(), &rdp::orders().iter().map(one).collect::<Vec<_>>(), delta)
            }
            Self::ReplaceOne { noise_multiplier } => {
                gaussian_epsilon(2.0 * libm::sqrt(steps as f64) / noise_multiplier, delta)
            }
        }
    }

    /// The same mechanism with this much noise.
    pub fn with_noise(self, noise_multiplier: f64) -> Self {
        match self {
            Self::Poisson { rate, .. } => Self::Poisson { noise_multiplier, rate },
            Self::FixedSize { clients, cohort, .. } => Self::FixedSize { noise_multiplier, clients, cohort },
            Self::ReplaceOne { .. } => Self::ReplaceOne { noise_multiplier },
        }
    }

    /// Which data sets count as neighbours.
    pub fn neighbours(&self) -> &'static str {
        match self {
            Self::Poisson { .. } => "one client added or removed",
            Self::FixedSize { .. } | Self::ReplaceOne { .. } => "one client replaced (sensitivity 2S)",
        }
    }
}
