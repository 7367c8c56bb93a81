//! State that clients keep between their counted tasks, as nodes of the graph: control variates, the moments of their optimizers,
//! factors of their adapters, memories of error feedback, and ranks that they prune.

use std::collections::BTreeMap;

use crate::adapter::Factors;
use crate::graph::{Compress, Control, Executor, Node, NodeId, Prune, TrainingOrder};

/// State of all clients after their last counted task.
pub struct ClientStates<'a> {
    executor: &'a Executor<'a>,
    /// Whether a round that is not scheduled yet may need the state, so that it has to be held.
    is_live: bool,
    controls: BTreeMap<u32, NodeId>,
    moments: BTreeMap<u32, NodeId>,
    /// Factors that clients keep, and those of each client that has trained.
    factors: Factors,
    kept: BTreeMap<u32, NodeId>,
    memories: BTreeMap<u32, NodeId>,
    /// Ranks of clients that prune them, and the models that they were given last.
    ranks: BTreeMap<u32, NodeId>,
    ranks_before: BTreeMap<u32, NodeId>,
    starts: BTreeMap<u32, NodeId>,
}

impl<'a> ClientStates<'a> {
    /// Creates the state before the first round, which is empty, for clients that keep these factors.
    pub fn new(executor: &'a Executor<'a>, is_live: bool, factors: Factors) -> Self {
        let (controls, moments, kept, memories) = Default::default();
        let (ranks, ranks_before, starts) = Default::default();
        Self { executor, is_live, controls, moments, factors, kept, memories, ranks, ranks_before, starts }
    }

    /// Whether clients keep factors, so that each has a model of its own.
    pub fn are_personal(&self) -> bool {
        self.factors != Factors::None
    }

    /// Returns the model that a client has at this model of the server: with the factors that it has kept, if there are any.
    pub fn personal(&self, client: u32, server: NodeId) -> NodeId {
        match self.kept.get(&client) {
            Some(&kept) => self.executor.add(Node::Personal { server, kept, factors: self.factors }),
            None => server,
        }
    }

    /// Replaces the factors that a client keeps by those of its training, if it keeps any.
    pub fn keep_factors(&mut self, client: u32, update: NodeId) {
        if self.are_personal() {
            let after = self.executor.add(Node::Kept { update, factors: self.factors });
            let before = self.kept.insert(client, after);
            self.hold(after, before);
        }
    }

    /// Adds the model that a client which prunes its rank begins its next task with: the server's, cut to its rank. Before its first task
    /// it has `rank`.
    pub fn begin_with_rank(&mut self, client: u32, server: NodeId, rank: u32) -> NodeId {
        if !self.ranks.contains_key(&client) {
            let first = self.executor.add(Node::Rank { rank });
            self.ranks.insert(client, first);
            self.hold(first, None);
        }
        let start = self.of_rank(client, server).expect("it has a rank");
        self.starts.insert(client, start);
        start
    }

    /// Adds a model of the server cut to the rank that a client has; `None` if it has pruned none.
    pub fn of_rank(&self, client: u32, server: NodeId) -> Option<NodeId> {
        let rank = *self.ranks.get(&client)?;
        Some(self.executor.add(Node::OfRank { server, rank }))
    }

    /// Replaces the rank of a client by the one that it has after the task that it has begun last. Returns the update that it sends.
    pub fn prune(&mut self, client: u32, update: NodeId, gamma: f64) -> NodeId {
        // A client has one task in a round, so the start is that of the update.
        let before = self.ranks[&client];
        let rank = self.executor.add(Node::PrunedRank(Prune { update, base: self.starts[&client], before, gamma }));
        self.ranks.insert(client, rank);
        self.ranks_before.insert(client, before);
        self.hold(rank, Some(before));
        self.executor.add(Node::Pruned { update, rank })
    }

    /// Returns the ranks that a client had before and after its last task; `None` if it prunes none.
    pub fn ranks_around_last_task(&self, client: u32) -> Option<[NodeId; 2]> {
        Some([*self.ranks_before.get(&client)?, *self.ranks.get(&client)?])
    }

    /// Adds the update that the server receives of a client, and replaces the client's memory if it has error feedback. The
    /// memory that `order` begins with is the client's.
    pub fn compress(&mut self, client: u32, order: Compress) -> NodeId {
        let before = self.memories.get(&client).copied();
        let received = self.executor.add(Node::Compress(Compress { memory: before, ..order }));
        if order.compression.error_feedback {
            let Compress { update, base, sent, rank, .. } = order;
            let after = self.executor.add(Node::Memory { update, base, received, before, sent, rank });
            self.memories.insert(client, after);
            self.hold(after, before);
        }
        received
    }

    /// Builds the training of a client's next task from `base`, with the client's state.
    pub fn train(&self, base: NodeId, training: TrainingOrder) -> Node {
        let control = training.client.and_then(|client| self.controls.get(&client).copied());
        let moments = training.client.and_then(|client| self.moments.get(&client).copied());
        let prunes = training.hyper.shrinkage.is_some();
        let rank = training.client.filter(|_| prunes).and_then(|client| self.ranks.get(&client).copied());
        Node::Train { base, control, moments, anchor: None, rank, training }
    }

    /// Replaces a client's variate by the one that `change` makes of it. Returns the variates after and before.
    pub fn control(&mut self, client: u32, change: impl FnOnce(Option<NodeId>) -> Control) -> (NodeId, Option<NodeId>) {
        let before = self.controls.get(&client).copied();
        let after = self.executor.add(Node::Control(change(before)));
        self.controls.insert(client, after);
        self.hold(after, before);
        (after, before)
    }

    /// Replaces a client's moments by those of its training.
    pub fn keep_moments(&mut self, client: u32, update: NodeId) {
        let before = self.moments.get(&client).copied();
        let after = self.executor.add(Node::Moments { update, before });
        self.moments.insert(client, after);
        self.hold(after, before);
    }

    /// Holds new state for later rounds, and releases the state that it replaces.
    fn hold(&self, after: NodeId, before: Option<NodeId>) {
        if !self.is_live {
            return;
        }
        // The new state is demanded first, so that it holds the old one as an input for as long as it needs it.
        self.executor.demand(after);
        if let Some(before) = before {
            self.executor.release(before);
        }
    }
}
