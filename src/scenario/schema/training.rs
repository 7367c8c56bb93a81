//! Fields of local training: batches, optimizer, accumulation of gradients, and objective.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fidelity::{ByFidelity, DefaultsBasis, FidelityDefault};
use crate::scenario::range;

/// Rows that a task trains on, and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Batches {
    /// Epochs over all of the client's rows, in a new order for each task, drawn from the run's seed.
    Fresh,
    /// FedLLM-Bench's batches for single turns and pairs: the round seeds the subset, which is the same for clients
    /// with equal numbers of rows, and a fixed seed shuffles it.
    RoundSeeded,
    /// FedLLM-Bench's batches for conversations: every task of a client sees the same first rows of one order.
    SamePrefix,
}

impl FidelityDefault for Batches {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::Fresh, Self::RoundSeeded)
    }
}

/// Dropout masks of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DropoutMasks {
    /// New masks for each task.
    PerTask,
    /// The same masks in each task, since every trainer of FedLLM-Bench starts from seed 42.
    Shared,
}

impl FidelityDefault for DropoutMasks {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::PerTask, Self::Shared)
    }
}

/// Steps of a task in proportion to the client's n rows, so that a client that is selected as often as the average
/// passes over its rows `epochs` times in the run: ceil(epochs n / (rounds clients_per_round / N) / rows of a step),
/// with N clients. Synchronous rounds only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DynamicSteps {
    /// [epochs] -- above 0. FedLLM-Bench uses 3.
    #[serde(default = "three", deserialize_with = "range::positive")]
    pub epochs: f64,
}

fn three() -> f64 {
    3.0
}

/// Optimizer of local training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Optimizer")]
pub enum OptimizerSpec {
    /// AdamW (Loshchilov and Hutter 2019).
    AdamW {
        /// [1] Decay of the first moment -- below 1.
        #[serde(default = "beta1", deserialize_with = "range::below_one")]
        beta1: f64,
        /// [1] Decay of the second moment -- below 1.
        #[serde(default = "beta2", deserialize_with = "range::below_one")]
        beta2: f64,
        /// [1] Term added to the root of the second moment -- above 0 in 32 bits.
        #[serde(default = "epsilon", deserialize_with = "range::positive_single")]
        epsilon: f64,
        /// [1] Decoupled weight decay.
        #[serde(default, deserialize_with = "range::non_negative_single")]
        weight_decay: f64,
        /// Order of operations.
        #[serde(default)]
        variant: ByFidelity<AdamVariantSpec>,
    },
    /// Gradient descent with PyTorch's momentum buffer.
    Sgd {
        /// [1] Momentum; 0 is plain gradient descent -- below 1.
        #[serde(default, deserialize_with = "range::below_one")]
        momentum: f64,
    },
}

impl OptimizerSpec {
    /// Returns the number of values that it keeps from step to step for each value that it trains.
    pub fn moments(self) -> u64 {
        match self {
            Self::AdamW { .. } => 2,
            Self::Sgd { momentum: 0.0 } => 0,
            Self::Sgd { .. } => 1,
        }
    }
}

impl FidelityDefault for OptimizerSpec {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        if basis.wants_plain_descent() {
            return Self::Sgd { momentum: 0.0 };
        }
        Self::AdamW {
            beta1: beta1(),
            beta2: beta2(),
            epsilon: epsilon(),
            weight_decay: 0.0,
            variant: AdamVariantSpec::under(basis).into(),
        }
    }
}

/// Treatment of the optimizer's moments between the tasks of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OptimizerState {
    /// Each task starts without moments, as in FedAvg and FedLLM-Bench.
    #[default]
    Reset,
    /// Each task of a client starts from the moments of its last task that counted. They never leave the client.
    Kept,
}

/// Variant of AdamW. The two in use differ in where epsilon and weight decay enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "AdamVariant")]
pub enum AdamVariantSpec {
    /// `torch.optim.AdamW`: decay first; epsilon is added to the bias-corrected root.
    PyTorch,
    /// `transformers.AdamW`, up to 4.x: epsilon is added to the uncorrected root; decay last.
    Transformers,
}

impl FidelityDefault for AdamVariantSpec {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::PyTorch, Self::Transformers)
    }
}

/// Combination of the gradients of a step's micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Accumulation")]
pub enum AccumulationSpec {
    /// Mean over all target tokens of the step.
    PerToken,
    /// Mean over micro-batches of their means over target tokens, as in published code.
    PerMicroBatch,
}

impl FidelityDefault for AccumulationSpec {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::PerToken, Self::PerMicroBatch)
    }
}

/// Objective that a client minimizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Objective")]
pub enum ObjectiveSpec {
    /// Supervised fine-tuning: the negative log-likelihood of the answers.
    #[default]
    Sft,
    /// Direct preference optimization (Rafailov et al. 2023) on rows with a chosen and a rejected answer. A row is a
    /// pair.
    Dpo {
        /// [1] Strength of the pull toward the reference model -- above 0 in 32 bits.
        #[serde(default = "beta", deserialize_with = "range::positive_single")]
        beta: f64,
        /// Reference model. `Start`, which is not written out, and `Base` are the same without `model.lora.initial`.
        #[serde(default, skip_serializing_if = "ReferenceSpec::is_start")]
        #[schemars(extend("default" = "Start"))]
        reference: ReferenceSpec,
    },
}

/// Reference model of preference training, which stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Reference")]
pub enum ReferenceSpec {
    /// The model that training starts from, as in TRL: the base model with `model.lora.initial`, if it is given.
    #[default]
    Start,
    /// The base model without adapter.
    Base,
}

impl ObjectiveSpec {
    /// Returns what the reference model of preference training is, in words; `None` for other training. `starts_trained`
    /// says whether `model.lora.initial` is given.
    pub fn reference_model(self, starts_trained: bool) -> Option<&'static str> {
        match self {
            Self::Sft => None,
            Self::Dpo { reference: ReferenceSpec::Start, .. } if starts_trained => {
                Some("the base model with the adapter of model.lora.initial")
            }
            Self::Dpo { .. } => Some("the base model without adapter"),
        }
    }
}

impl ReferenceSpec {
    fn is_start(&self) -> bool {
        *self == Self::Start
    }
}

fn beta() -> f64 {
    0.1
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}
