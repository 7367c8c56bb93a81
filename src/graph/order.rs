//! What can be ordered, and the key of each order.

use std::sync::Arc;

use fedreplay_sim::Seed;
use petgraph::graph::NodeIndex;

use super::exam::Exam;
use crate::adapter::{Adapter, Layout};
use crate::algorithm::ServerRule;
use crate::data::Rows;
use crate::privacy::Release;
use crate::training::{CorrectionPlace, Hyper, Objective};

/// The place of an order in its graph.
pub type OrderId = NodeIndex;

/// The rows and rules of one client's local training.
#[derive(Clone, Debug)]
pub struct Training {
    /// For messages only: two clients with the same rows do the same work.
    pub client: u32,
    pub rows: Arc<Rows>,
    /// Positions in `rows`, by step and micro-batch.
    pub steps: Vec<Vec<Vec<usize>>>,
    pub hyper: Hyper,
    pub objective: Objective,
    /// Where SCAFFOLD's correction enters, under such a method.
    pub correction: Option<CorrectionPlace>,
    /// Keys the dropout masks, with `stream`; without dropout a training does not depend on either.
    pub seed: Seed,
    /// The task's place among all tasks of its client and of other clients.
    pub stream: u64,
    /// Whether the optimiser's moments are part of the result.
    pub keeps_moments: bool,
}

/// One update in an aggregate.
#[derive(Clone, Copy, Debug)]
pub struct Contribution {
    pub update: OrderId,
    /// The server model that the update started from.
    pub base: OrderId,
    /// [1] Weight before normalisation.
    pub weight: f64,
    /// [1] Factor on the normalised weight: what staleness and the server's step size leave of it.
    pub discount: f64,
}

/// What a client's control variate becomes with a task that counted (SCAFFOLD).
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// The client's training.
    pub update: OrderId,
    /// The model that it started from.
    pub base: OrderId,
    /// The variate that it started with; none is zero.
    pub before: Option<OrderId>,
    /// [steps] Steps of the task.
    pub steps: u32,
    /// [1] Their learning rate.
    pub learning_rate: f64,
}

/// The control variates of a round's counted clients, after and before it.
#[derive(Clone, Debug)]
pub struct Controls {
    pub changes: Vec<(OrderId, Option<OrderId>)>,
    /// [clients] Clients of the whole federation.
    pub clients: u32,
}

/// Something to compute.
#[derive(Clone, Debug)]
pub enum Order {
    /// The adapter that every run of this seed starts from.
    Initial { layout: Arc<Layout>, seed: Seed },
    /// An adapter that the run is given to start from.
    Given { adapter: Arc<Adapter> },
    /// Local training from the adapter of `base`, with the client's control variate if it has one, and the moments that its
    /// optimiser goes on from if they are kept.
    Train { base: OrderId, control: Option<OrderId>, moments: Option<OrderId>, training: Training },
    /// Trainings in one pass over the base, where the bits of each may depend on the others.
    Cohort(Vec<Order>),
    /// The update of one training of a cohort; `client` is for messages.
    Member { cohort: OrderId, index: usize, client: u32 },
    /// A client's control variate after a task that counted.
    Control(Control),
    /// The moments of a client's optimiser after a task that counted, and `before` it.
    Moments { update: OrderId, before: Option<OrderId> },
    /// The next server model.
    Aggregate {
        server: OrderId,
        contributions: Vec<Contribution>,
        /// The private step between collecting the updates and applying them, if there is one.
        release: Option<Arc<Release>>,
        /// How the mean update becomes the next model.
        rule: ServerRule,
        controls: Option<Controls>,
    },
    /// Losses of the adapter of `model` on groups of rows.
    Evaluate { model: OrderId, groups: Vec<Arc<Rows>>, objective: Objective },
    /// The adapter of `model` before a benchmark.
    Examine { model: OrderId, exam: Arc<dyn Exam> },
}

impl Order {
    /// What kind of order it is, for tables and messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Initial { .. } => "initial",
            Self::Given { .. } => "given",
            Self::Train { .. } => "train",
            Self::Cohort(_) => "cohort",
            Self::Member { .. } => "member",
            Self::Control(_) => "control",
            Self::Moments { .. } => "moments",
            Self::Aggregate { .. } => "aggregate",
            Self::Evaluate { .. } => "evaluate",
            Self::Examine { .. } => "examine",
        }
    }

    /// [tasks] Trainings that it is.
    pub fn trainings(&self) -> usize {
        match self {
            Self::Train { .. } => 1,
            Self::Cohort(members) => members.len(),
            _ => 0,
        }
    }

    /// The orders whose results it needs, each once for each use.
    pub fn inputs(&self) -> Vec<OrderId> {
        match self {
            Self::Initial { .. } | Self::Given { .. } => vec![],
            Self::Train { base, control, moments, .. } => {
                std::iter::once(*base).chain(*control).chain(*moments).collect()
            }
            Self::Moments { update, before } => std::iter::once(*update).chain(*before).collect(),
            Self::Cohort(members) => members.iter().flat_map(Order::inputs).collect(),
            Self::Member { cohort, .. } => vec![*cohort],
            Self::Control(control) => [control.update, control.base].into_iter().chain(control.before).collect(),
            Self::Aggregate { server, contributions, controls, .. } => {
                let pairs = contributions.iter().flat_map(|c| [c.update, c.base]);
                let changes = controls.iter().flat_map(|controls| &controls.changes);
                let variates = changes.flat_map(|&(after, before)| std::iter::once(after).chain(before));
                std::iter::once(*server).chain(pairs).chain(variates).collect()
            }
            Self::Evaluate { model, .. } | Self::Examine { model, .. } => vec![*model],
        }
    }
}
