//! The fields of differential privacy: what is clipped, where noise comes in, and how much may be spent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unit;
use crate::scenario::range;

/// What protects the clients' updates. `docs/privacy.md` says what each promises.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Privacy {
    /// User-level differential privacy: each client's whole update is clipped, and noise hides any one client.
    UserLevel {
        /// How updates are bounded.
        clipping: Clipping,
        /// [clipping norms] Standard deviation of the noise on the sum of updates -- at least 0.
        #[serde(deserialize_with = "range::non_negative")]
        noise_multiplier: f64,
        /// [1] Delta of the guarantee -- above 0, below 1, and well below one over the number of clients.
        #[serde(deserialize_with = "range::open_share")]
        delta: f64,
        /// [1] Epsilon that no round may take the run beyond; none spends without limit.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        epsilon: Option<f64>,
        /// Who adds the noise.
        #[serde(default)]
        placement: NoisePlacement,
        /// How epsilon is computed where clients are sampled.
        #[serde(default)]
        accountant: Accountant,
        /// Where noise comes from.
        #[serde(default)]
        noise: Noise,
        /// [clipping norms] Grid of discrete Gaussian noise; none adds continuous noise -- above 0, at most 1.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        grid: Option<f64>,
        /// [rows] Rows from which on a client's weight is 1, where updates are weighted by rows -- above 0.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        weight_bound: Option<f64>,
        /// [updates] Updates of one client that count in the run. Needed where sampling does not amplify -- at least 1.
        #[serde(default)]
        max_participations: Option<u32>,
        /// [clients] What sums are divided by; none is the cohort that the selection is expected to give -- above 0.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        expected_cohort: Option<f64>,
    },
    /// What FedLLM-Bench's FedDP does: noise on unclipped updates, scaled for something else. It gives NO GUARANTEE: the
    /// true epsilon is infinite.
    FedLlmBenchDp {
        /// [1] Epsilon that the method claims -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive")]
        claimed_epsilon: f64,
        /// [1] Delta that the method claims -- above 0, below 1.
        #[serde(default = "their_delta", deserialize_with = "range::open_share")]
        claimed_delta: f64,
        /// [1] A norm that enters the noise's scale and clips nothing -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive")]
        max_grad_norm: f64,
        /// [1] Standard deviation of the noise on each value, instead of the method's own -- above 0.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        sigma: Option<f64>,
    },
}

/// How updates are bounded in L2 norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Clipping {
    /// All values together, to one norm.
    Fixed {
        /// [1] -- above 0.
        #[serde(deserialize_with = "range::positive")]
        norm: f64,
    },
    /// Each of L modules to norm / sqrt(L).
    PerLayer {
        /// [1] -- above 0.
        #[serde(deserialize_with = "range::positive")]
        norm: f64,
    },
    /// To a quantile of the clients' norms, found under noise (Andrew et al. 2021).
    Adaptive {
        /// [1] Norm of the first round -- above 0.
        #[serde(deserialize_with = "range::positive")]
        initial_norm: f64,
        /// [1] Share of updates that shall stay as they are -- 0 to 1.
        #[serde(default = "half", deserialize_with = "range::share")]
        quantile: f64,
        /// [1] How fast the norm follows -- above 0.
        #[serde(default = "one_fifth", deserialize_with = "range::positive")]
        rate: f64,
        /// [clients] Standard deviation of the noise on the count of unclipped updates: its share of what is spent -- above
        /// half the noise multiplier. The paper takes a twentieth of the cohort.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        count_noise: Option<f64>,
    },
}

/// Who adds noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoisePlacement {
    /// The server, to each sum.
    #[default]
    Central,
    /// Each client, to its update.
    Local,
    /// The server, to nodes of a tree over all rounds (DP-FTRL, Kairouz et al. 2021): for when sampling cannot be assumed.
    Tree,
}

/// How epsilon is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Accountant {
    /// Privacy loss distributions: tight.
    #[default]
    Pld,
    /// Rényi differential privacy.
    Rdp,
}

/// Where noise comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Noise {
    /// From the scenario's seed: reproducible, for simulation, and no protection from anyone who knows the seed.
    #[default]
    Seeded,
    /// From the operating system: protects, and cannot be reproduced. The run records only that it was so.
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
