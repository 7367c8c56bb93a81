//! State of the executor: the phase of each node, and the number of holds on its value.
//!
//! Phases go from `Planned` to `Waiting`, `Started` and then `Done` or `InStore`. When the last hold on a value is released
//! the value is dropped and its node is `Planned` again.

use std::collections::BTreeSet;

use petgraph::Direction;
use petgraph::graph::DiGraph;

use super::divided::Divided;
use super::divided::{Claimed, NodeInput};
use super::{GraphError, Node, NodeId, Value};
use crate::store::{Digest, Key};

/// Record of a finished node, with its wall-clock time, for the timing table.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub id: NodeId,
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
    /// Nodes that a worker may take now. A sorted set, so that the first in plan order is taken first.
    pub ready: BTreeSet<NodeId>,
    /// Keys of the nodes that workers are computing.
    pub under_way: BTreeSet<Key>,
    /// Evaluations among these nodes that are computed in parts.
    pub divided: Divided,
    pub finished: Vec<Finished>,
    pub failure: Option<GraphError>,
    pub closed: bool,
}

/// Node in the graph, with its state.
pub(super) struct NodeState {
    pub node: Node,
    pub key: Key,
    pub phase: Phase,
    /// Number of demanded nodes and callers that still need the value.
    pub holds: usize,
    /// Whether this node holds its inputs. It does not if its result was expected from the store.
    pub holds_inputs: bool,
    /// Hash of the value, once a caller has taken it.
    pub result: Option<Digest>,
}

/// Phase of a node.
pub(super) enum Phase {
    /// In the graph, and not demanded.
    Planned,
    /// Demanded, with this number of inputs still missing.
    Waiting(usize),
    /// Ready for a worker, or being computed.
    Started,
    Done(Value),
    /// Done, with the value in the store alone, so that client state takes no memory between two tasks of the client.
    InStore,
}

impl Phase {
    /// Whether the value has been computed.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_) | Self::InStore)
    }
}

impl State {
    /// Whether a node is a training whose inputs are done.
    fn can_train(&self, id: NodeId) -> bool {
        let node = &self.graph[id].node;
        matches!(node, Node::Train { .. }) && node.inputs().iter().all(|&input| self.graph[input].phase.is_done())
    }

    /// Takes the first ready node and, if it is a training, up to `most` trainings in all to share a pass. Of several
    /// nodes with the same key only one is taken at a time; the others will find its result.
    pub fn pop(&mut self, most: usize) -> Vec<Claimed> {
        let mut claimed: Vec<NodeId> = Vec::new();
        for &id in &self.ready {
            if claimed.len() == most {
                break;
            }
            let fits = claimed.first().is_none_or(|&first| self.can_train(first) && self.can_train(id));
            if fits && self.under_way.insert(self.graph[id].key) {
                claimed.push(id);
            }
        }
        for id in &claimed {
            self.ready.remove(id);
        }
        claimed.into_iter().map(|id| self.claim(id)).collect()
    }

    /// Returns a node with the values of its inputs, or without them if its result is expected from the
    /// store and any of them was not computed.
    fn claim(&self, id: NodeId) -> Claimed {
        let NodeState { node, key, .. } = &self.graph[id];
        let values = node.inputs().into_iter().map(|input| match &self.graph[input].phase {
            Phase::Done(value) => Some(NodeInput::Value(value.clone())),
            Phase::InStore => Some(NodeInput::InStore(self.graph[input].key)),
            _ => None,
        });
        Claimed { id, inputs: values.collect(), node: node.clone(), key: *key }
    }

    /// Makes a node ready for the workers: its inputs are done, or its result is in the store.
    pub fn start(&mut self, id: NodeId) {
        self.graph[id].phase = Phase::Started;
        self.ready.insert(id);
    }

    /// Records the result of a node, makes nodes ready that waited for nothing else, and releases the node's inputs.
    pub fn complete(&mut self, finished: Finished, phase: Phase) {
        let id = finished.id;
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
        // Reset before the release, so that a node that is computed a second time holds its inputs again.
        if std::mem::take(&mut self.graph[id].holds_inputs) {
            for input in self.graph[id].node.inputs() {
                self.release(input);
            }
        }
    }

    /// Releases one hold on a node; the last release drops the value.
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
        let layout = Arc::new(Layout { modules: vec![], rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false });
        let adapter = Arc::new(Adapter::zeros(layout));
        let mut state = State::default();
        for name in ["a", "a", "b"] {
            let node = Node::Given { adapter: adapter.clone() };
            let (key, phase) = (key_of("test", &name), Phase::Planned);
            let id = state.graph.add_node(NodeState { node, key, phase, holds: 1, holds_inputs: false, result: None });
            state.start(id);
        }
        let places = |nodes: &[Claimed]| nodes.iter().map(|claimed| claimed.id.index()).collect::<Vec<_>>();
        assert_eq!(places(&state.pop(1)), [0]);
        assert_eq!(places(&state.pop(3)), [2]);
        assert!(state.pop(3).is_empty());
        let (id, key) = (NodeId::new(0), key_of("test", &"a"));
        let finished = Finished { id, kind: "given", key, from_store: false, trainings: 0, seconds: 0.0 };
        state.complete(finished, Phase::InStore);
        assert_eq!(places(&state.pop(3)), [1]);
    }
}
