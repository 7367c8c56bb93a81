//! State of the executor: the phase of each order, and the number of holds on its value.
//!
//! Phases go from `Planned` to `Waiting`, `Started` and then `Done` or `Shelved`. When the last hold on a value is released
//! the value is dropped and its order is `Planned` again.

use std::collections::BTreeSet;

use petgraph::Direction;
use petgraph::graph::DiGraph;

use super::divided::Divided;
use super::taken::{Claimed, NodeInput};
use super::{GraphError, Node, NodeId, Value};
use crate::store::{Digest, Key};

/// Record of a finished order, with its wall-clock time, for the timing table.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub order: NodeId,
    pub kind: &'static str,
    pub key: Key,
    pub from_store: bool,
    /// [tasks] -- Number of trainings in the order.
    pub trainings: usize,
    /// [s] -- Wall-clock time; for an evaluation, the sum over its parts.
    pub seconds: f64,
}

/// Common state of the callers and workers of an executor.
#[derive(Default)]
pub(super) struct State {
    pub graph: DiGraph<NodeState, ()>,
    /// Orders that a worker may take now. A sorted set, so that the first in plan order is taken first.
    pub ready: BTreeSet<NodeId>,
    /// Keys of the orders that workers are computing.
    pub under_way: BTreeSet<Key>,
    /// Those of these orders that are computed in parts.
    pub divided: Divided,
    pub finished: Vec<Finished>,
    pub failure: Option<GraphError>,
    pub closed: bool,
}

/// Order in the graph, with its state.
pub(super) struct NodeState {
    pub order: Node,
    pub key: Key,
    pub phase: Phase,
    /// Number of demanded orders and callers that still need the value.
    pub holds: usize,
    /// Whether this order holds its inputs. It does not if its result was expected from the store.
    pub holds_inputs: bool,
    /// Hash of the value, once a caller has taken it.
    pub result: Option<Digest>,
}

/// Phase of an order.
pub(super) enum Phase {
    /// In the graph, and not demanded.
    Planned,
    /// Demanded, with this number of inputs still missing.
    Waiting(usize),
    /// Ready for a worker, or being computed.
    Started,
    Done(Value),
    /// Done, with the value in the store alone, so that client state takes no memory between two tasks of the client.
    Shelved,
}

impl Phase {
    /// Whether the value has been computed.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Shelved)
    }
}

impl State {
    /// Whether an order is a training whose inputs are done.
    fn can_train(&self, id: NodeId) -> bool {
        let order = &self.graph[id].order;
        matches!(order, Node::Train { .. }) && order.inputs().iter().all(|&input| self.graph[input].phase.is_done())
    }

    /// Takes the first ready order and, if it is a training, up to `most` trainings in all to share a pass. Of several
    /// orders with the same key only one is taken at a time; the others will find its result.
    pub fn pop(&mut self, most: usize) -> Vec<Claimed> {
        let mut taken: Vec<NodeId> = Vec::new();
        for &id in &self.ready {
            if taken.len() == most {
                break;
            }
            let fits = taken.first().is_none_or(|&first| self.can_train(first) && self.can_train(id));
            if fits && self.under_way.insert(self.graph[id].key) {
                taken.push(id);
            }
        }
        for id in &taken {
            self.ready.remove(id);
        }
        taken.into_iter().map(|id| self.taken(id)).collect()
    }

    /// Returns an order with the values of its inputs, or without if its result is expected from the store and any of them
    /// was not computed.
    fn taken(&self, id: NodeId) -> Claimed {
        let node = &self.graph[id];
        let values = node.order.inputs().into_iter().map(|input| match &self.graph[input].phase {
            Phase::Done(value) => Some(NodeInput::Value(value.clone())),
            Phase::Shelved => Some(NodeInput::Shelved(self.graph[input].key)),
            _ => None,
        });
        Claimed { id, inputs: values.collect(), order: node.order.clone(), key: node.key }
    }

    /// Makes an order ready for the workers: its inputs are done, or its result is in the store.
    pub fn start(&mut self, id: NodeId) {
        self.graph[id].phase = Phase::Started;
        self.ready.insert(id);
    }

    /// Records the result of an order, makes orders ready that waited for nothing else, and releases the order's inputs.
    pub fn complete(&mut self, finished: Finished, phase: Phase) {
        let id = finished.order;
        self.under_way.remove(&finished.key);
        self.finished.push(finished);
        self.graph[id].phase = phase;
        // One edge per use, like the count of missing inputs.
        let users: Vec<NodeId> = self.graph.neighbors_directed(id, Direction::Outgoing).collect();
        for user in users {
            if let Phase::Waiting(missing) = &mut self.graph[user].phase {
                *missing -= 1;
                if *missing == 0 {
                    self.start(user);
                }
            }
        }
        // Reset before the release, so that an order that is computed a second time holds its inputs again.
        if std::mem::take(&mut self.graph[id].holds_inputs) {
            for input in self.graph[id].order.inputs() {
                self.release(input);
            }
        }
    }

    /// Releases one hold on an order; the last release drops the value.
    pub fn release(&mut self, id: NodeId) {
        let node = &mut self.graph[id];
        node.holds = node.holds.checked_sub(1).expect("every release answers a hold");
        if node.holds == 0 && node.phase.is_done() {
            node.phase = Phase::Planned;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::adapter::{Adapter, Layout};
    use crate::store::key_of;

    #[test]
    fn of_orders_with_one_key_one_is_taken_at_a_time() {
        let layout = Arc::new(Layout { modules: vec![], rank: 1, alpha: 1.0, rank_stabilized: false });
        let adapter = Arc::new(Adapter::zeros(layout));
        let mut state = State::default();
        for name in ["a", "a", "b"] {
            let order = Node::Given { adapter: adapter.clone() };
            let (key, phase) = (key_of("test", &name), Phase::Planned);
            let id = state.graph.add_node(NodeState { order, key, phase, holds: 1, holds_inputs: false, result: None });
            state.start(id);
        }
        let places = |taken: &[Claimed]| taken.iter().map(|taken| taken.id.index()).collect::<Vec<_>>();
        assert_eq!(places(&state.pop(1)), [0]);
        assert_eq!(places(&state.pop(3)), [2]);
        assert!(state.pop(3).is_empty());
        let (order, key) = (NodeId::new(0), key_of("test", &"a"));
        let finished = Finished { order, kind: "given", key, from_store: false, trainings: 0, seconds: 0.0 };
        state.complete(finished, Phase::Shelved);
        assert_eq!(places(&state.pop(3)), [1]);
    }
}
