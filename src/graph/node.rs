//! Nodes of the computation graph.

use std::sync::Arc;

use fedreplay_sim::Seed;
use petgraph::graph::NodeIndex;

use super::scheduled_evaluation::ScheduledEvaluation;
use crate::adapter::{Adapter, Factors, Layout};
use crate::algorithm::{AggregationRule, AttackRule, RobustAggregation, ServerRule};
use crate::compression::Compression;
use crate::data::Rows;
use crate::privacy::Release;
use crate::training::{CorrectionPlace, Hyper, Objective};

/// Index of a node in its graph.
pub type NodeId = NodeIndex;

/// Rows and settings of one client's local training.
#[derive(Clone, Debug)]
pub struct TrainingOrder {
    /// For messages only: two clients with the same rows do the same work. `None` is the server.
    pub client: Option<u32>,
    pub rows: Arc<Rows>,
    /// Indices into `rows`, by step and micro-batch.
    pub steps: Vec<Vec<Vec<usize>>>,
    pub hyper: Hyper,
    pub objective: Objective,
    /// Place where SCAFFOLD's correction enters; `None` under other methods.
    pub correction: Option<CorrectionPlace>,
    /// Key of the dropout masks, together with `stream`. Without dropout a training depends on neither.
    pub seed: Seed,
    /// Number of the task among all tasks of all clients.
    pub stream: u64,
    /// Whether the optimizer's moments are part of the result.
    pub keeps_moments: bool,
}

/// One update in an aggregate.
#[derive(Clone, Copy, Debug)]
pub struct Contribution {
    pub update: NodeId,
    /// Model that the update is compared with: the one that it started from, or the current one where models are mixed.
    pub base: NodeId,
    /// [1] -- Weight before normalization.
    pub weight: f64,
    /// [1] -- Factor on the normalized weight, for staleness and the server's step size.
    pub discount: f64,
    /// [version] -- Number of models between the one that the update started from and the round's.
    pub staleness: u32,
    /// Rank of the client.
    pub rank: usize,
}

/// Change of a client's control variate by a task that counted (SCAFFOLD).
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Training of the client.
    pub update: NodeId,
    /// Model that the training started from.
    pub base: NodeId,
    /// Control variate that the training started with; `None` is zero.
    pub before: Option<NodeId>,
    /// [steps] -- Steps of the task.
    pub steps: u32,
    /// [1] -- Learning rate of the steps.
    pub learning_rate: f64,
}

/// Control variates of a round's counted clients, each after and before the round.
#[derive(Clone, Debug)]
pub struct Controls {
    pub changes: Vec<(NodeId, Option<NodeId>)>,
    /// [clients] -- Number of clients in the whole federation.
    pub clients: u32,
}

/// Update that a client which attacks sends in the place of its own.
#[derive(Clone, Debug)]
pub struct Attack {
    /// Training of the client.
    pub update: NodeId,
    /// Model that the training started from.
    pub base: NodeId,
    /// Updates that the attacker knows of, each with its base.
    pub known: Vec<(NodeId, NodeId)>,
    pub rule: AttackRule,
    /// Factors that clients send; attackers know of no others.
    pub sent: Factors,
    /// Seed and stream of noise; `None` for attacks without noise.
    pub noise: Option<(Seed, u64)>,
}

/// Update that the server receives in the place of the one that a client has compressed.
#[derive(Clone, Copy, Debug)]
pub struct Compress {
    /// Update of the client: its training, or its attack.
    pub update: NodeId,
    /// Model that the training started from.
    pub base: NodeId,
    /// Memory of the client before the task; `None` is zero.
    pub memory: Option<NodeId>,
    pub compression: Compression,
    /// Factors that clients send.
    pub sent: Factors,
    /// Rank of the client.
    pub rank: usize,
    /// Seed and stream of random rounding; `None` for codecs without it.
    pub draws: Option<(Seed, u64)>,
}

/// Pruning of a client's rank after a task that counted (HetLoRA).
#[derive(Clone, Copy, Debug)]
pub struct Prune {
    /// Training of the client.
    pub update: NodeId,
    /// Model that the training started from.
    pub base: NodeId,
    /// Rank of the client before the task.
    pub before: NodeId,
    /// [1] -- Part of the rank that is kept where the rest has become smaller.
    pub gamma: f64,
}

/// Initial adapter from a first step on the whole weights (Fed-SB).
#[derive(Clone, Debug)]
pub struct FirstStep {
    pub layout: Arc<Layout>,
    /// Rows of each batch of which the gradients are summed, each with its place.
    pub batches: Vec<Vec<(Arc<Rows>, usize)>>,
    /// [1] -- Length of the step along the signs of the gradient.
    pub step_size: f64,
}

/// Node of the computation graph: something to compute from the results of other nodes.
#[derive(Clone, Debug)]
pub enum Node {
    /// Initial adapter of all runs with this seed.
    Initial { layout: Arc<Layout>, seed: Seed },
    /// Initial adapter from gradients of the base at these rows.
    FirstStep(FirstStep),
    /// Adapter that the scenario supplies as the start.
    Given { adapter: Arc<Adapter> },
    /// Local training from the adapter of `base`, with the client's control variate and with the moments that its optimizer
    /// continues from, if the client has them. A proximal term pulls toward the model `anchor`, or else toward `base`. Of a client
    /// that prunes its rank, `rank` is the one that it has.
    Train {
        base: NodeId,
        control: Option<NodeId>,
        moments: Option<NodeId>,
        anchor: Option<NodeId>,
        rank: Option<NodeId>,
        training: TrainingOrder,
    },
    /// Trainings that share a pass over the base, where the bits of each may depend on the others.
    Cohort(Vec<Node>),
    /// Update of one training of a cohort; `client` is for messages.
    Member { cohort: NodeId, index: usize, client: Option<u32> },
    /// Control variate of a client after a task that counted.
    Control(Control),
    /// Moments of a client's optimizer after a task that counted; `before` are those before it.
    Moments { update: NodeId, before: Option<NodeId> },
    /// Factors that a client keeps for itself after a task that counted.
    Kept { update: NodeId, factors: Factors },
    /// Model that a client trains and that is evaluated for it: the server's, with the factors that the client has kept.
    Personal { server: NodeId, kept: NodeId, factors: Factors },
    /// Model as clients receive it, of which some factors are encoded and decoded again.
    Broadcast { server: NodeId, compression: Compression, factors: Factors },
    /// Model that a client of lower rank gets: the server's, cut to that rank.
    Truncated { server: NodeId, rank: usize },
    /// Rank of a client before its first task.
    Rank { rank: u32 },
    /// Rank of a client after a task that counted.
    PrunedRank(Prune),
    /// Model that a client which prunes its rank gets: the server's, cut to that rank.
    OfRank { server: NodeId, rank: NodeId },
    /// Update that such a client sends, cut to the rank that it has after the task.
    Pruned { update: NodeId, rank: NodeId },
    /// Update that an attacker sends.
    Attack(Attack),
    /// Update as the server receives it, with what a codec has lost.
    Compress(Compress),
    /// Memory of a client's error feedback after a task that counted, of which `received` is the compressed update.
    Memory { update: NodeId, base: NodeId, received: NodeId, before: Option<NodeId>, sent: Factors, rank: usize },
    /// Next server model.
    Aggregate {
        server: NodeId,
        contributions: Vec<Contribution>,
        /// Factors that the clients sent; the others of the server keep their bits.
        sent: Factors,
        /// Private release between collecting the updates and applying them; `None` without privacy.
        release: Option<Arc<Release>>,
        /// Robust rule in the place of the mean; `None` under the mean. It does not go with a private release.
        robust: Option<RobustAggregation>,
        /// Rule of one's own in the place of mean and server optimizer; `None` under FedReplay's.
        own_rule: Option<Arc<dyn AggregationRule>>,
        /// Training of the server by itself, from `server`, for rules that read one.
        root: Option<NodeId>,
        /// Server optimizer: turns the mean update into the next model.
        rule: ServerRule,
        /// Whether the server's moments, which are those of another rule, are dropped before the step.
        begins_anew: bool,
        controls: Option<Controls>,
    },
    /// Losses of the adapter of `model` on groups of rows.
    Evaluate { model: NodeId, groups: Vec<Arc<Rows>>, objective: Objective },
    /// Results of the adapter of `model` on a benchmark.
    Benchmark { model: NodeId, benchmark: Arc<dyn ScheduledEvaluation> },
}

impl Node {
    /// Returns the kind of the node, for tables and messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Initial { .. } => "initial",
            Self::FirstStep(_) => "first_step",
            Self::Given { .. } => "given",
            Self::Train { .. } => "train",
            Self::Cohort(_) => "cohort",
            Self::Member { .. } => "member",
            Self::Control(_) => "control",
            Self::Moments { .. } => "moments",
            Self::Kept { .. } => "kept",
            Self::Personal { .. } => "personal",
            Self::Broadcast { .. } => "broadcast",
            Self::Truncated { .. } => "truncated",
            Self::Rank { .. } => "rank",
            Self::PrunedRank(_) => "pruned_rank",
            Self::OfRank { .. } => "of_rank",
            Self::Pruned { .. } => "pruned",
            Self::Attack(_) => "attack",
            Self::Compress(_) => "compress",
            Self::Memory { .. } => "memory",
            Self::Aggregate { .. } => "aggregate",
            Self::Evaluate { .. } => "evaluate",
            Self::Benchmark { .. } => "examine",
        }
    }

    /// [tasks] -- Returns the number of trainings in the order.
    pub fn trainings(&self) -> usize {
        match self {
            Self::Train { .. } => 1,
            Self::Cohort(members) => members.len(),
            _ => 0,
        }
    }

    /// Returns the nodes whose results this node needs, once per use. Their order is part of the key, and the code that
    /// computes the node relies on it.
    pub fn inputs(&self) -> Vec<NodeId> {
        match self {
            Self::Initial { .. } | Self::FirstStep(_) | Self::Given { .. } | Self::Rank { .. } => vec![],
            Self::Train { base, control, moments, anchor, rank, .. } => {
                std::iter::once(*base).chain(*control).chain(*moments).chain(*anchor).chain(*rank).collect()
            }
            Self::PrunedRank(Prune { update, base, before, .. }) => vec![*update, *base, *before],
            Self::OfRank { server, rank } => vec![*server, *rank],
            Self::Pruned { update, rank } => vec![*update, *rank],
            Self::Kept { update, .. } => vec![*update],
            Self::Personal { server, kept, .. } => vec![*server, *kept],
            Self::Broadcast { server, .. } | Self::Truncated { server, .. } => vec![*server],
            Self::Moments { update, before } => std::iter::once(*update).chain(*before).collect(),
            // The inputs of all members, one member after another: they are split up again by their numbers.
            Self::Cohort(members) => members.iter().flat_map(Node::inputs).collect(),
            Self::Member { cohort, .. } => vec![*cohort],
            Self::Control(control) => [control.update, control.base].into_iter().chain(control.before).collect(),
            Self::Attack(attack) => {
                let known = attack.known.iter().flat_map(|&(update, base)| [update, base]);
                [attack.update, attack.base].into_iter().chain(known).collect()
            }
            Self::Compress(Compress { update, base, memory, .. }) => {
                [*update, *base].into_iter().chain(*memory).collect()
            }
            Self::Memory { update, base, received, before, .. } => {
                [*update, *base, *received].into_iter().chain(*before).collect()
            }
            Self::Aggregate { server, contributions, root, controls, .. } => {
                // Server model; update and base of each contribution; the server's own training; control variate after and
                // before of each client.
                let pairs = contributions.iter().flat_map(|c| [c.update, c.base]);
                let changes = controls.iter().flat_map(|controls| &controls.changes);
                let variates = changes.flat_map(|&(after, before)| std::iter::once(after).chain(before));
                std::iter::once(*server).chain(pairs).chain(*root).chain(variates).collect()
            }
            Self::Evaluate { model, .. } | Self::Benchmark { model, .. } => vec![*model],
        }
    }
}
