//! Fields of differential privacy: clipping, noise, accounting and budget.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unit;
use crate::scenario::range;

/// Protection of the clients' updates. `docs/privacy.md` describes the guarantee of each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Privacy {
    /// User-level differential privacy: each client's whole update is clipped, and noise hides any one client.
    UserLevel {
        /// Bound on the norms of updates.
        clipping: ClippingSpec,
        /// [clipping norms] Standard deviation of the noise on the sum of updates -- at least 0.
        #[serde(deserialize_with = "range::non_negative")]
        noise_multiplier: f64,
        /// [1] Delta of the guarantee -- above 0, below 1, and well below one over the number of clients.
        #[serde(deserialize_with = "range::open_share")]
        delta: f64,
        /// [1] Budget: a round that would exceed this epsilon is not run. `None` is unlimited.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        epsilon: Option<f64>,
        /// Place at which noise is added.
        #[serde(default)]
        placement: NoisePlacement,
        /// Method of computing epsilon under sampling of clients.
        #[serde(default)]
        accountant: AccountantSpec,
        /// Source of the noise.
        #[serde(default)]
        noise: Noise,
        /// [clipping norms] Spacing of discrete Gaussian noise; `None` adds continuous noise -- above 0, at most 1.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        grid: Option<f64>,
        /// [rows] Number of rows from which on a client has weight 1, if updates are weighted by rows -- above 0.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        weight_bound: Option<f64>,
        /// [updates] Updates of one client that may count in the run. Required if sampling does not amplify privacy --
        /// at least 1.
        #[serde(default)]
        max_participations: Option<u32>,
        /// [clients] Divisor of the sum of updates; `None` is the expected size of a cohort -- above 0.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        expected_cohort: Option<f64>,
    },
    /// FedLLM-Bench's FedDP: noise on unclipped updates, with a scale that fits no sensitivity. It gives NO GUARANTEE:
    /// the true epsilon is infinite.
    FedLlmBenchDp {
        /// [1] Epsilon that the method claims -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive")]
        claimed_epsilon: f64,
        /// [1] Delta that the method claims -- above 0, below 1.
        #[serde(default = "their_delta", deserialize_with = "range::open_share")]
        claimed_delta: f64,
        /// [1] Norm that enters the noise's scale but clips nothing -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive")]
        max_grad_norm: f64,
        /// [1] Standard deviation of the noise on each value, instead of the method's own -- above 0.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        sigma: Option<f64>,
    },
}

/// Clipping of updates in L2 norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Clipping")]
pub enum ClippingSpec {
    /// Clips all values of an update together to one norm.
    Fixed {
        /// [1] Clipping norm -- above 0.
        #[serde(deserialize_with = "range::positive")]
        norm: f64,
    },
    /// Clips each of L modules to norm / sqrt(L).
    PerLayer {
        /// [1] Clipping norm of the whole update -- above 0.
        #[serde(deserialize_with = "range::positive")]
        norm: f64,
    },
    /// Clips to a quantile of the clients' norms, which is estimated under noise (Andrew et al. 2021).
    Adaptive {
        /// [1] Clipping norm of the first round -- above 0.
        #[serde(deserialize_with = "range::positive")]
        initial_norm: f64,
        /// [1] Target share of updates that are not clipped -- 0 to 1.
        #[serde(default = "half", deserialize_with = "range::share")]
        quantile: f64,
        /// [1] Learning rate of the clipping norm -- above 0.
        #[serde(default = "one_fifth", deserialize_with = "range::positive")]
        rate: f64,
        /// [clients] Standard deviation of the noise on the count of unclipped updates, which takes a part of the
        /// budget -- above half the noise multiplier. The paper uses a twentieth of the cohort.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        count_noise: Option<f64>,
    },
}

/// Place at which noise is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoisePlacement {
    /// At the server, on each sum.
    #[default]
    Central,
    /// At each client, on its update.
    Local,
    /// At the server, on the nodes of a tree over all rounds (DP-FTRL, Kairouz et al. 2021), which needs no assumption
    /// about sampling.
    Tree,
}

/// Method of computing epsilon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Accountant")]
pub enum AccountantSpec {
    /// Privacy loss distributions: tight.
    #[default]
    Pld,
    /// Rényi differential privacy.
    Rdp,
}

/// Source of the noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Noise {
    /// The scenario's seed: reproducible, for simulation, without protection from anyone who knows the seed.
    #[default]
    Seeded,
    /// The operating system: protects, and cannot be reproduced. The run records only that it was used.
    Secret,
}

fn half() -> f64 {
    0.5
}

fn one_fifth() -> f64 {
    0.2
}

fn their_delta() -> f64 {
    1e-4
}
