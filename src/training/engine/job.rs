//! Training jobs and their outcomes.

use std::sync::Arc;

use fedreplay_sim::Seed;
use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, Factors};
use crate::data::Sample;
use crate::store::Digest;
use crate::training::objectives::preference::PreferenceMetrics;

/// Micro-batches of one optimizer step, each a list of rows.
pub type Step = Vec<Vec<Arc<Sample>>>;

/// Local training of one client, with all of its inputs.
#[derive(Clone, Debug)]
pub struct Job {
    /// Initial adapter.
    pub adapter: Arc<Adapter>,
    /// Training data, in the order of use.
    pub steps: Vec<Step>,
    /// Objective to minimize.
    pub objective: Objective,
    /// Terms that the federated method adds.
    pub terms: AlgorithmTerms,
    /// Hyperparameters.
    pub hyper: Hyper,
    /// Seed of the dropout masks, which are the only random part of training.
    pub seed: Seed,
    /// Stream of the dropout masks: the identity of the task.
    pub stream: u64,
}

/// Training objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// Negative log-likelihood of the target tokens (supervised fine-tuning).
    #[default]
    Sft,
    /// Direct preference optimization (arXiv 2305.18290): rows 2i and 2i + 1 of a micro-batch are the chosen and the
    /// rejected answer of pair i.
    Dpo {
        /// Strength of the penalty for leaving the reference.
        beta: f64,
        /// Hash of the reference adapter, which the trainer was given; `None` is the base without adapter.
        // Keys were made without this field before there were reference adapters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<Digest>,
    },
}

impl Objective {
    /// Returns the hash of the reference adapter; `None` without one.
    pub fn reference(self) -> Option<Digest> {
        match self {
            Self::Sft => None,
            Self::Dpo { reference, .. } => reference,
        }
    }
}

/// Inputs of local training that come from the federated method.
#[derive(Clone, Debug, Default)]
pub struct AlgorithmTerms {
    /// Center of the proximal term; `None` selects the initial adapter of the job.
    pub anchor: Option<Arc<Adapter>>,
    /// SCAFFOLD's c - c_i (arXiv 1910.06378), and the place at which it is applied.
    pub correction: Option<(Arc<Adapter>, CorrectionPlace)>,
    /// Initial state of the update rule; `None` is all zeros.
    pub moments: Option<Arc<Moments>>,
    /// Whether the outcome contains the moments after the last step.
    pub keeps_moments: bool,
    /// Rank of the client, whose last components are shrunk; `None` is that of the adapter.
    pub rank: Option<usize>,
}

/// State of an update rule between two local trainings of one client, in f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Mean of gradients, or the momentum buffer; `None` is zero.
    pub first: Option<Adapter>,
    /// Mean square of gradients; `None` is zero.
    pub second: Option<Adapter>,
    /// Number of steps so far.
    pub steps: u32,
}

/// Places in a step at which a correction is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CorrectionPlace {
    /// Added to the gradient before it is clipped, as in the paper's local step.
    Gradient,
    /// Subtracted, times the learning rate, from the values after the update, as FedLLM-Bench does.
    AfterUpdate,
}

/// Hyperparameters of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyper {
    /// Update rule.
    pub optimizer: Optimizer,
    /// Learning rate, which is constant within a job.
    pub learning_rate: f64,
    /// Global norm to which larger gradients are scaled down; `None` disables clipping.
    pub clip_norm: Option<f64>,
    /// Weighting of the micro-batches of one step.
    pub accumulation: Accumulation,
    /// Probability of LoRA dropout, in [0, 1).
    pub dropout: f64,
    /// FedProx's mu, which adds mu (w - anchor) to each gradient (arXiv 1812.06127).
    pub proximal: Option<f64>,
    /// Factors that are trained. The others keep their bits, and their gradient counts as zero in the norm.
    // Keys were made without this field before there were methods that train one factor.
    #[serde(default = "both", skip_serializing_if = "is_both")]
    pub trains: Factors,
    /// Steps before those that train `trains`; `None` if all steps of a job do.
    // Left out of keys where there are none, for the same reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_steps: Option<FirstSteps>,
    /// Term that shrinks the last components of the client's rank.
    // Keys were made without this field before there was this term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrinkage: Option<Shrinkage>,
}

/// Term of the loss that shrinks a client's last components (HetLoRA, arXiv 2401.06432, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shrinkage {
    /// Part of the client's rank whose components are not shrunk, as in [`crate::adapter::pruned_rank`].
    pub gamma: f64,
    /// Weight of the size of the others, which is added to the loss ([`crate::adapter::Layout::size_of_components`]).
    pub lambda: f64,
}

/// Steps at the beginning of a job that train factors of their own. The optimizer has its first step again after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstSteps {
    /// [steps] -- Their number.
    pub count: u32,
    pub trains: Factors,
}

fn both() -> Factors {
    Factors::Both
}

fn is_both(factors: &Factors) -> bool {
    *factors == Factors::Both
}

impl Default for Hyper {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::default(),
            learning_rate: 1e-3,
            clip_norm: Some(1.0),
            accumulation: Accumulation::PerToken,
            dropout: 0.0,
            proximal: None,
            trains: Factors::Both,
            first_steps: None,
            shrinkage: None,
        }
    }
}

/// Update rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Adam with decoupled weight decay (arXiv 1711.05101).
    AdamW {
        /// Decay rate of the mean.
        beta1: f64,
        /// Decay rate of the mean square.
        beta2: f64,
        /// Term added to the root of the mean square.
        eps: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
        /// Library whose order of operations is followed.
        variant: AdamVariant,
    },
    /// Gradient descent with PyTorch's momentum buffer.
    Sgd {
        /// Momentum; 0 is plain gradient descent.
        momentum: f64,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, variant: AdamVariant::PyTorch }
    }
}

/// Implementations of AdamW, which differ in the places at which eps and weight decay are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdamVariant {
    /// `torch.optim.AdamW`: decay first; eps is added to the bias-corrected root.
    PyTorch,
    /// `transformers.AdamW` (up to 4.x): eps is added to the uncorrected root; decay last.
    Transformers,
}

/// Ways to combine the gradients of micro-batches to that of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accumulation {
    /// Mean over micro-batches of their mean over target tokens, as published code does.
    PerMicroBatch,
    /// Mean over all target tokens of the step.
    PerToken,
    /// Sum of the micro-batches' means over target tokens, divided by this number instead of their count: the behavior
    /// of `transformers` 4.31 in a step that is cut short by the end of an epoch.
    OverNominal(u32),
}

/// Outcome of a job.
#[derive(Clone, Debug)]
pub struct TrainingOutcome {
    /// Adapter after the last step that was taken.
    pub adapter: Adapter,
    /// [nat/token] -- Loss of each step before its update; under DPO in nat/pair.
    pub losses: Vec<f64>,
    /// Preference metrics of each step before its update; empty unless under DPO.
    pub preferences: Vec<PreferenceMetrics>,
    /// Norm of the gradient at each step, before clipping.
    pub grad_norms: Vec<f64>,
    /// [token] -- Tokens that were processed.
    pub tokens: u64,
    /// [token] -- Target tokens among them.
    pub target_tokens: u64,
    /// Norm of the change from the initial adapter.
    pub update_norm: f64,
    /// Whether the result may be used.
    pub status: Status,
    /// Moments of the update rule after the last step, if they were requested.
    pub moments: Option<Moments>,
}

/// Whether the result of a job may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// All steps were taken and the adapter changed.
    Ok,
    /// The loss or gradient of this step was NaN or infinite; the job stopped before it.
    NonFinite {
        /// Index of the step, from 0.
        step: usize,
    },
    /// No value of the adapter changed.
    Unchanged,
}
