//! What can be ordered, and the key of each order.

use std::sync::Arc;

use fedreplay_sim::Seed;
use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::exam::Exam;
use super::release::Release;
use crate::adapter::{Adapter, Layout};
use crate::algorithm::ServerRule;
use crate::dataset::Sample;
use crate::store::{Digest, Key, key_of};
use crate::training::{CorrectionPlace, Hyper, Objective};

/// The place of an order in its graph.
pub type OrderId = NodeIndex;

/// Tokenised rows with their hashes. A row is one sample, or under preference data the two of a pair.
#[derive(Debug)]
pub struct Rows {
    pub samples: Vec<Arc<Sample>>,
    hashes: Vec<Digest>,
    /// [samples] Samples a row.
    width: usize,
}

impl Rows {
    /// Hashes each row once.
    pub fn new(samples: Vec<Sample>) -> Self {
        let hashes = samples.iter().map(|sample| Digest(*sample.hash().as_bytes())).collect();
        Self { samples: samples.into_iter().map(Arc::new).collect(), hashes, width: 1 }
    }

    /// The same of pairs: chosen answer, then the rejected one.
    pub fn of_pairs(pairs: Vec<[Sample; 2]>) -> Self {
        Self { width: 2, ..Self::new(pairs.into_iter().flatten().collect()) }
    }

    /// Number of rows: of samples, or of pairs.
    pub fn count(&self) -> usize {
        self.samples.len() / self.width
    }

    /// The samples of a row.
    pub fn row(&self, place: usize) -> &[Arc<Sample>] {
        &self.samples[place * self.width..(place + 1) * self.width]
    }

    /// [tokens] The longest row.
    pub fn longest(&self) -> u64 {
        let tokens = |row: &[Arc<Sample>]| row.iter().map(|sample| sample.ids.len() as u64).sum();
        self.samples.chunks(self.width).map(tokens).max().unwrap_or(0)
    }

    fn row_hashes(&self, place: usize) -> &[Digest] {
        &self.hashes[place * self.width..(place + 1) * self.width]
    }

    /// The rows of all, in order.
    pub fn pooled(parts: &[Arc<Rows>]) -> Self {
        let samples = parts.iter().flat_map(|rows| rows.samples.iter().cloned()).collect();
        let hashes = parts.iter().flat_map(|rows| rows.hashes.iter().copied()).collect();
        Self { samples, hashes, width: parts.first().map_or(1, |rows| rows.width) }
    }

    /// Tokens that a loss is taken on.
    pub fn target_tokens(&self) -> u64 {
        self.samples.iter().map(|sample| sample.target_tokens()).sum()
    }

    /// All tokens, prompts included.
    pub fn tokens(&self) -> u64 {
        self.samples.iter().map(|sample| sample.ids.len() as u64).sum()
    }
}

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
    /// Local training from the adapter of `base`, with the client's control variate if it has one.
    Train { base: OrderId, control: Option<OrderId>, training: Training },
    /// Trainings in one pass over the base, where the bits of each may depend on the others.
    Cohort(Vec<Order>),
    /// The update of one training of a cohort; `client` is for messages.
    Member { cohort: OrderId, index: usize, client: u32 },
    /// A client's control variate after a task that counted.
    Control(Control),
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
            Self::Aggregate { .. } => "aggregate",
            Self::Evaluate { .. } => "evaluate",
            Self::Examine { .. } => "examine",
        }
    }

    /// The orders whose results it needs, each once for each use.
    pub fn inputs(&self) -> Vec<OrderId> {
        match self {
            Self::Initial { .. } | Self::Given { .. } => vec![],
            Self::Train { base, control, .. } => std::iter::once(*base).chain(*control).collect(),
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

    /// The key of the order: a hash of everything that can change the bits of its result.
    ///
    /// `engine` stands for base model and numerics; `input` gives the keys of the orders it depends on. The number in
    /// each name is the version of the code that computes the order: a change of its bits raises it.
    pub fn key(&self, engine: Digest, input: &dyn Fn(OrderId) -> Key) -> Key {
        match self {
            Self::Initial { layout, seed } => key_of("fedreplay order initial v2", &(&**layout, seed)),
            Self::Given { adapter } => key_of("fedreplay order given v1", adapter.hash().as_bytes()),
            Self::Train { base, control, training } => {
                let control = (training.correction, control.map(input));
                key_of("fedreplay order train v3", &(training.material(engine, input(*base)), control))
            }
            Self::Cohort(members) => {
                let members: Vec<Key> = members.iter().map(|member| member.key(engine, input)).collect();
                key_of("fedreplay order cohort v1", &members)
            }
            Self::Member { cohort, index, .. } => key_of("fedreplay order member v1", &(input(*cohort), *index as u64)),
            Self::Control(control) => {
                let inputs = (input(control.update), input(control.base), control.before.map(input));
                key_of("fedreplay order control v1", &(inputs, control.steps, control.learning_rate))
            }
            Self::Aggregate { server, contributions, release, rule, controls } => {
                let part = |c: &Contribution| (input(c.update), input(c.base), c.weight, c.discount);
                let parts: Vec<_> = contributions.iter().map(part).collect();
                let change = |&(after, before): &(OrderId, Option<OrderId>)| (input(after), before.map(input));
                let controls = controls
                    .as_ref()
                    .map(|controls| (controls.changes.iter().map(change).collect::<Vec<_>>(), controls.clients));
                let release = release.as_ref().map(|release| release.material());
                key_of("fedreplay order aggregate v4", &(input(*server), parts, release, rule, controls))
            }
            Self::Evaluate { model, groups, objective } => {
                let rows: Vec<_> = groups.iter().map(|rows| &rows.hashes).collect();
                key_of("fedreplay order evaluate v3", &(engine, input(*model), rows, objective))
            }
            Self::Examine { model, exam } => key_of("fedreplay order examine v1", &(engine, input(*model), exam.key())),
        }
    }
}

impl Training {
    fn material(&self, engine: Digest, base: Key) -> impl Serialize {
        let hashes = |rows: &Vec<usize>| rows.iter().flat_map(|&row| self.rows.row_hashes(row)).copied().collect();
        let step = |step: &Vec<Vec<usize>>| step.iter().map(hashes).collect();
        let steps: Vec<Vec<Vec<Digest>>> = self.steps.iter().map(step).collect();
        let masks = (self.hyper.dropout > 0.0).then_some((self.seed, self.stream));
        (engine, base, steps, self.hyper.clone(), self.objective, masks)
    }
}
