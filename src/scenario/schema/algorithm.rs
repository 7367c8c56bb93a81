//! Fields of the federated method.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fidelity::{ByFidelity, DefaultsBasis, FidelityDefault};
use super::unit;
use crate::scenario::range;

/// Federated method: its additions to local training, and the server's step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Algorithm {
    /// Weighted mean of the clients' adapters (McMahan et al. 2017).
    FedAvg {
        #[serde(default)]
        weights: WeightsSpec,
        #[serde(default)]
        mean: Mean,
    },
    /// FedAvg with a proximal term that pulls each client toward the model that it started from (Li et al. 2020).
    FedProx {
        /// [1] Strength of the proximal term: mu/2 times the squared distance is added to the local loss -- at least 0.
        #[serde(default = "hundredth", deserialize_with = "range::non_negative_single")]
        mu: f64,
        #[serde(default)]
        weights: WeightsSpec,
        #[serde(default)]
        mean: Mean,
    },
    /// Control variates against client drift (Karimireddy et al. 2020), updated by the paper's option II.
    Scaffold {
        /// [1] Factor on the mean update -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive_single")]
        server_lr: f64,
        /// The paper's mean is `Uniform`; FedLLM-Bench weights models, but not variates, by `Samples`.
        #[serde(default)]
        weights: ByFidelity<ScaffoldWeights>,
        #[serde(default)]
        correction: ByFidelity<Correction>,
    },
    /// Server momentum (Hsu et al. 2019).
    FedAvgM {
        /// [1] Decay of the momentum -- below 1. 0.9 in the paper, 0.5 in FedLLM-Bench.
        #[serde(default, deserialize_with = "range::below_one")]
        beta: ByFidelity<MomentumDecay>,
        /// [1] Factor on the momentum -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive_single")]
        server_lr: f64,
        #[serde(default)]
        momentum: ByFidelity<MomentumSpec>,
        #[serde(default)]
        weights: WeightsSpec,
    },
    /// Adaptive server step with a sum of squares (Reddi et al. 2021).
    FedAdagrad {
        /// [1] Factor on the adaptive step -- above 0.
        #[serde(default = "thousandth", deserialize_with = "range::positive_single")]
        server_lr: f64,
        /// [1] Added to the root; its square is the first second moment -- above 0.
        #[serde(default = "thousandth", deserialize_with = "range::positive_single")]
        tau: f64,
        #[serde(default = "uniform")]
        weights: WeightsSpec,
    },
    /// Adaptive server step with Yogi's second moment (Reddi et al. 2021).
    FedYogi {
        /// [1] Factor on the adaptive step -- above 0.
        #[serde(default = "thousandth", deserialize_with = "range::positive_single")]
        server_lr: f64,
        /// [1] Added to the root; its square is the first second moment -- above 0.
        #[serde(default = "thousandth", deserialize_with = "range::positive_single")]
        tau: f64,
        /// [1] Decay of the first moment -- below 1.
        #[serde(default, deserialize_with = "range::below_one")]
        beta1: ByFidelity<FirstMomentDecay>,
        /// [1] Decay of the second moment -- below 1.
        #[serde(default = "adaptive_beta2", deserialize_with = "range::below_one")]
        beta2: f64,
        #[serde(default)]
        first_moment: ByFidelity<FirstMoment>,
        #[serde(default)]
        second_moment: ByFidelity<SecondMoment>,
        #[serde(default = "uniform")]
        weights: WeightsSpec,
    },
    /// Adaptive server step with Adam's second moment (Reddi et al. 2021).
    FedAdam {
        /// [1] Factor on the adaptive step -- above 0.
        #[serde(default = "thousandth", deserialize_with = "range::positive_single")]
        server_lr: f64,
        /// [1] Added to the root; its square is the first second moment -- above 0.
        #[serde(default = "thousandth", deserialize_with = "range::positive_single")]
        tau: f64,
        /// [1] Decay of the first moment -- below 1.
        #[serde(default, deserialize_with = "range::below_one")]
        beta1: ByFidelity<FirstMomentDecay>,
        /// [1] Decay of the second moment -- below 1.
        #[serde(default = "adaptive_beta2", deserialize_with = "range::below_one")]
        beta2: f64,
        #[serde(default)]
        first_moment: ByFidelity<FirstMoment>,
        #[serde(default)]
        second_moment: ByFidelity<SecondMoment>,
        #[serde(default = "uniform")]
        weights: WeightsSpec,
    },
    /// Rule of one's own: the function `aggregate` of a Python file, in a process of its own. `docs/own-rules.md` has an
    /// example, and says what the function gets and returns.
    Python {
        /// File with the function.
        file: PathBuf,
        /// Keyword arguments of the function: numbers, texts and flags.
        #[serde(default)]
        parameters: BTreeMap<String, RuleParameter>,
        #[serde(default)]
        weights: WeightsSpec,
        /// [aggregations] Interval at which a second process computes an aggregation again; it also does so with the first two.
        /// Other bits end the run. It changes no result -- at least 1.
        #[serde(default = "ten", deserialize_with = "range::at_least_one")]
        check_every: u32,
        /// [s] Longest time of this machine that loading the rule or an aggregation may take. It changes no result -- above 0.
        #[serde(default = "ten_minutes", deserialize_with = "range::positive")]
        time_limit: f64,
    },
    /// Rule of one's own: one that the program which runs the scenario brings (`RunOptions::rules`). The program `fedreplay` has
    /// none.
    Custom {
        /// Name of the rule in the program.
        name: String,
        #[serde(default)]
        weights: WeightsSpec,
    },
    /// No federation: every client continues from its own last adapter. `data.clients` selects fewer.
    Local,
    /// No federation: one client has all rows.
    Centralised,
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::FedAvg { weights: WeightsSpec::Samples, mean: Mean::Factors }
    }
}

impl Algorithm {
    /// Returns its name in the literature.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FedAvg { .. } => "FedAvg",
            Self::FedProx { .. } => "FedProx",
            Self::Scaffold { .. } => "SCAFFOLD",
            Self::FedAvgM { .. } => "FedAvgM",
            Self::FedAdagrad { .. } => "FedAdagrad",
            Self::FedYogi { .. } => "FedYogi",
            Self::FedAdam { .. } => "FedAdam",
            Self::Python { .. } => "Python",
            Self::Custom { .. } => "Custom",
            Self::Local => "Local",
            Self::Centralised => "Centralised",
        }
    }

    /// Returns the weights of the updates in an aggregate.
    pub fn weights(&self) -> WeightsSpec {
        match *self {
            Self::FedAvg { weights, .. }
            | Self::FedProx { weights, .. }
            | Self::FedAvgM { weights, .. }
            | Self::FedAdagrad { weights, .. }
            | Self::FedYogi { weights, .. }
            | Self::FedAdam { weights, .. }
            | Self::Python { weights, .. }
            | Self::Custom { weights, .. } => weights,
            Self::Scaffold { weights, .. } => weights.get(),
            Self::Local | Self::Centralised => WeightsSpec::Samples,
        }
    }

    /// Whether the rule by which the server aggregates is one of the user's own.
    pub fn is_own_rule(&self) -> bool {
        matches!(self, Self::Python { .. } | Self::Custom { .. })
    }

    /// Returns the number of adapters transferred in each direction per task. SCAFFOLD sends a control variate with the
    /// model.
    pub fn adapters_on_the_wire(&self) -> u64 {
        if matches!(self, Self::Scaffold { .. }) { 2 } else { 1 }
    }
}

/// Keyword argument of a rule in Python.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "it must be a number, a text, true or false")]
pub enum RuleParameter {
    Flag(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// Weights of the updates in an aggregate, before they are normalized to sum to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Weights")]
pub enum WeightsSpec {
    /// The client's number of training rows.
    #[default]
    Samples,
    /// The number of distinct rows that the task trained on.
    SamplesUsed,
    /// The same weight for all.
    Uniform,
}

/// Quantity that is averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mean {
    /// A and B separately, as in FedLLM-Bench and most publications, although the product of means is not the mean of
    /// products.
    #[default]
    Factors,
    /// The products B A, by which adapters act. The mean is replaced by the nearest adapter of the same rank.
    Products,
}

/// Place of SCAFFOLD's correction in a local step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Correction {
    /// In the gradient, as in the paper.
    Gradient,
    /// After the optimizer's step, times the learning rate, as in FedLLM-Bench.
    AfterUpdate,
}

impl FidelityDefault for Correction {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::Gradient, Self::AfterUpdate)
    }
}

/// Rule for FedAvgM's momentum m.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Momentum")]
pub enum MomentumSpec {
    /// beta m + update, starting from 0, as in the paper.
    Accumulated,
    /// beta m + (1 - beta) update, starting from the first update, as in FedLLM-Bench: smoothing without acceleration.
    Averaged,
}

impl FidelityDefault for MomentumSpec {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::Accumulated, Self::Averaged)
    }
}

/// Initial value of the first moment of FedYogi and FedAdam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FirstMoment {
    /// 0, as in the paper.
    FromZero,
    /// The first update, as in FedLLM-Bench.
    FromFirstUpdate,
}

impl FidelityDefault for FirstMoment {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::FromZero, Self::FromFirstUpdate)
    }
}

/// Quantity that the second moment of FedYogi and FedAdam averages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecondMoment {
    /// Squares of updates, as in the paper.
    OfUpdates,
    /// Squares of first moments, as in FedLLM-Bench.
    OfFirstMoments,
}

impl FidelityDefault for SecondMoment {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::OfUpdates, Self::OfFirstMoments)
    }
}

/// Default of SCAFFOLD's `weights`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaffoldWeights;

impl FidelityDefault for ScaffoldWeights {
    type Value = WeightsSpec;

    fn under(basis: DefaultsBasis) -> WeightsSpec {
        basis.choose(WeightsSpec::Uniform, WeightsSpec::Samples)
    }
}

/// Default of FedAvgM's `beta`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MomentumDecay;

impl FidelityDefault for MomentumDecay {
    type Value = f64;

    fn under(basis: DefaultsBasis) -> f64 {
        basis.choose(0.9, 0.5)
    }
}

/// Default of `beta1`: 0.9 as in Reddi et al. (appendix D.2), or 0.5 as in FedLLM-Bench.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstMomentDecay;

impl FidelityDefault for FirstMomentDecay {
    type Value = f64;

    fn under(basis: DefaultsBasis) -> f64 {
        basis.choose(0.9, 0.5)
    }
}

fn ten() -> u32 {
    10
}

fn ten_minutes() -> f64 {
    600.0
}

fn uniform() -> WeightsSpec {
    WeightsSpec::Uniform
}

fn adaptive_beta2() -> f64 {
    0.99
}

pub(super) fn tenth() -> f64 {
    0.1
}

pub(super) fn hundredth() -> f64 {
    0.01
}

fn thousandth() -> f64 {
    1e-3
}
