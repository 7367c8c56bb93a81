//! How a client takes its steps: the update rule, and what one step's gradient is made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fidelity::{choose, wants_sgd};
use crate::scenario::range;

/// Local optimisers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Optimizer {
    /// AdamW (Loshchilov and Hutter 2019).
    AdamW {
        /// [1] Decay of the mean -- below 1.
        #[serde(default = "beta1", deserialize_with = "range::below_one")]
        beta1: f64,
        /// [1] Decay of the mean square -- below 1.
        #[serde(default = "beta2", deserialize_with = "range::below_one")]
        beta2: f64,
        /// [1] Added to the root of the mean square -- above 0 in 32 bits.
        #[serde(default = "epsilon", deserialize_with = "range::positive_single")]
        epsilon: f64,
        /// [1] Decoupled decay.
        #[serde(default, deserialize_with = "range::non_negative_single")]
        weight_decay: f64,
        /// Whose order of operations.
        #[serde(default)]
        variant: AdamVariant,
    },
    /// Gradient descent with PyTorch's momentum buffer.
    Sgd {
        /// [1] 0 is plain gradient descent -- below 1.
        #[serde(default, deserialize_with = "range::below_one")]
        momentum: f64,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        if wants_sgd() {
            return Self::Sgd { momentum: 0.0 };
        }
        Self::AdamW {
            beta1: beta1(),
            beta2: beta2(),
            epsilon: epsilon(),
            weight_decay: 0.0,
            variant: AdamVariant::default(),
        }
    }
}

/// What becomes of the optimiser's moments between the tasks of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OptimizerState {
    /// Each task begins with none, as in FedAvg and in FedLLM-Bench.
    #[default]
    Reset,
    /// A client's next task that counts goes on from those of its last one. They stay with the client.
    Kept,
}

/// The two AdamW in use differ in where epsilon and weight decay enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdamVariant {
    /// `torch.optim.AdamW`: decay first; epsilon is added to the bias-corrected root.
    PyTorch,
    /// `transformers.AdamW`, up to 4.x: epsilon is added to the uncorrected root; decay last.
    Transformers,
}

impl Default for AdamVariant {
    fn default() -> Self {
        choose(Self::PyTorch, Self::Transformers)
    }
}

/// How the gradient of a step comes from its micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Accumulation {
    /// Mean over all target tokens of the step.
    PerToken,
    /// Mean over micro-batches of their mean over target tokens, as published code does.
    PerMicroBatch,
}

impl Default for Accumulation {
    fn default() -> Self {
        choose(Self::PerToken, Self::PerMicroBatch)
    }
}

/// What a client minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Objective {
    /// The negative log-likelihood of the answers.
    #[default]
    Sft,
    /// Direct preference optimisation (Rafailov et al. 2023) on rows with a chosen and a rejected answer; a row is a pair,
    /// and the reference is the base model without adapter.
    Dpo {
        /// [1] How strongly the model is held to the reference -- above 0 in 32 bits.
        #[serde(default = "beta", deserialize_with = "range::positive_single")]
        beta: f64,
    },
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
