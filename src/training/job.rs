//! A training as it is ordered, and what comes of it.

use std::sync::Arc;

use fedreplay_sim::Seed;
use serde::{Deserialize, Serialize};

use crate::adapter::Adapter;
use crate::data::Sample;

/// One optimiser step: its micro-batches, each a list of rows.
pub type Step = Vec<Vec<Arc<Sample>>>;

/// One client's training, with all that it needs.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where it starts.
    pub adapter: Arc<Adapter>,
    /// What it trains on.
    pub steps: Vec<Step>,
    /// What it minimises.
    pub objective: Objective,
    /// What the federated method adds.
    pub terms: Terms,
    /// How it trains.
    pub hyper: Hyper,
    /// Keys the dropout masks; nothing else in a training is random.
    pub seed: Seed,
    /// Which stream of masks: the task's identity.
    pub stream: u64,
}

/// What a training minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// The negative log-likelihood of the target tokens.
    #[default]
    Sft,
    /// Direct preference optimisation (arXiv 2305.18290): rows 2i and 2i + 1 of a micro-batch are the chosen and the
    /// rejected answer of pair i, and the reference is the base without adapter.
    Dpo {
        /// How strongly the policy is held to the reference.
        beta: f64,
    },
}

/// Data that a federated method hands to a client's training.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What the proximal term pulls towards; the adapter that the job starts from where none is given.
    pub anchor: Option<Arc<Adapter>>,
    /// SCAFFOLD's c - c_i (arXiv 1910.06378), and where it enters.
    pub correction: Option<(Arc<Adapter>, CorrectionPlace)>,
    /// What the update rule goes on from; none starts at zero.
    pub moments: Option<Arc<Moments>>,
    /// Whether the outcome has the moments after the last step.
    pub keeps_moments: bool,
}

/// What an update rule remembers between two trainings of one client, in f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Mean of gradients, or the momentum buffer; none is zero.
    pub first: Option<Adapter>,
    /// Mean square of gradients; none is zero.
    pub second: Option<Adapter>,
    /// [steps] Steps so far.
    pub steps: u32,
}

/// Where a correction enters a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CorrectionPlace {
    /// Added to the gradient before it is clipped, as in the paper's local step.
    Gradient,
    /// Subtracted, times the learning rate, from the values after the update, as FedLLM-Bench does.
    AfterUpdate,
}

/// How adapters are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyper {
    /// The update rule.
    pub optimizer: Optimizer,
    /// Learning rate, constant inside a job.
    pub learning_rate: f64,
    /// Gradients are scaled down to this global norm where they exceed it.
    pub clip_norm: Option<f64>,
    /// How micro-batches of one step are weighted.
    pub accumulation: Accumulation,
    /// LoRA dropout, in [0, 1).
    pub dropout: f64,
    /// FedProx's mu: adds mu (w - anchor) to each gradient (arXiv 1812.06127).
    pub proximal: Option<f64>,
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
        }
    }
}

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Adam with decoupled weight decay (arXiv 1711.05101).
    AdamW {
        /// Decay of the mean.
        beta1: f64,
        /// Decay of the mean square.
        beta2: f64,
        /// Added to the root of the mean square.
        eps: f64,
        /// Decoupled decay.
        weight_decay: f64,
        /// Whose order of operations.
        variant: AdamVariant,
    },
    /// Gradient descent with PyTorch's momentum buffer.
    Sgd {
        /// 0 is plain gradient descent.
        momentum: f64,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, variant: AdamVariant::PyTorch }
    }
}

/// The two AdamW in use differ in where eps and weight decay enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdamVariant {
    /// `torch.optim.AdamW`: decay first; eps is added to the bias-corrected root.
    PyTorch,
    /// `transformers.AdamW` (up to 4.x): eps is added to the uncorrected root; decay last.
    Transformers,
}

/// How the gradient of a step comes from its micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accumulation {
    /// Mean over micro-batches of their mean over target tokens, as published code does.
    PerMicroBatch,
    /// Mean over all target tokens of the step.
    PerToken,
    /// The micro-batches' means over target tokens, summed, over this number, which need not be how many there are: what
    /// `transformers` 4.31 makes of a step that the end of an epoch cuts short.
    OverNominal(u32),
}

/// What came of a job.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The adapter after the last step that was taken.
    pub adapter: Adapter,
    /// The loss of each step before its update [nat/token; nat/pair under DPO].
    pub losses: Vec<f64>,
    /// Under DPO, what each step's pairs said before its update.
    pub preferences: Vec<Preference>,
    /// The gradient's norm at each step, before clipping.
    pub grad_norms: Vec<f64>,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Tokens that were learnt.
    pub target_tokens: u64,
    /// Norm of the change from the start.
    pub update_norm: f64,
    /// Whether the result may be used.
    pub status: Status,
    /// The update rule's moments after the last step, where they were asked for.
    pub moments: Option<Moments>,
}

/// Means over the pairs of one DPO step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// beta times the log-ratio of policy to reference for the chosen answer.
    pub chosen_reward: f64,
    /// The same for the rejected answer.
    pub rejected_reward: f64,
    /// Share of pairs in which the chosen answer has the higher reward.
    pub accuracy: f64,
}

/// Whether the result of a job may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// All steps were taken and the adapter changed.
    Ok,
    /// The loss or gradient of this step was NaN or infinite; the job stopped before it.
    NonFinite {
        /// Counted from 0.
        step: usize,
    },
    /// No value of the adapter changed.
    Unchanged,
}
