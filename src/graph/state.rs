//! What is known of each order while a run is computed: asked for, waiting, done, and who still needs it.

use std::collections::BTreeSet;

use petgraph::Direction;
use petgraph::graph::DiGraph;

use super::divided::Divided;
use super::taken::{Given, Taken};
use super::{Order, OrderError, OrderId, Value};
use crate::store::{Digest, Key};

/// A finished order: wall-clock facts for the timing table.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub order: OrderId,
    pub kind: &'static str,
    pub key: Key,
    pub from_store: bool,
    /// [tasks] Trainings that it is.
    pub trainings: usize,
    /// [s] Wall-clock time, of an evaluation the sum over its parts.
    pub seconds: f64,
}

#[derive(Default)]
pub(super) struct State {
    pub graph: DiGraph<Node, ()>,
    pub ready: BTreeSet<OrderId>,
    /// Keys of orders in workers' hands.
    pub under_way: BTreeSet<Key>,
    /// Those among them that are computed part by part.
    pub divided: Divided,
    pub finished: Vec<Finished>,
    pub failure: Option<OrderError>,
    pub closed: bool,
}

pub(super) struct Node {
    pub order: Order,
    pub key: Key,
    pub phase: Phase,
    /// How many demanded orders and callers still need the value.
    pub holds: usize,
    /// Whether this order holds its inputs: not if its result was expected from the store.
    pub holds_inputs: bool,
    /// The hash of the value, once a caller has taken it.
    pub result: Option<Digest>,
}

pub(super) enum Phase {
    /// Known, and nobody asked for it.
    Planned,
    /// Asked for; so many inputs are still missing.
    Waiting(usize),
    /// Taken, or about to be, by a worker.
    Started,
    Done(Value),
    /// Done, and kept in the store alone: what clients keep from task to task fills no memory in between.
    Shelved,
}

impl Phase {
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Shelved)
    }
}

impl State {
    /// Whether an order is a training whose inputs are there.
    fn can_train(&self, id: OrderId) -> bool {
        let order = &self.graph[id].order;
        matches!(order, Order::Train { .. }) && order.inputs().iter().all(|&input| self.graph[input].phase.is_done())
    }

    /// The first order in line, and others that can be trained beside it, up to `most`. Of orders with one key one is taken:
    /// the others find its result.
    pub fn pop(&mut self, most: usize) -> Vec<Taken> {
        let mut taken: Vec<OrderId> = Vec::new();
        for &id in &self.ready {
            if taken.len() == most {
                break;
            }
            let fits = taken.first().is_none_or(|&first| self.can_train(first) && self.can_train(id));
            if fits && self.under_way.insert(self.graph[id].key) {
                taken.push(id);
            }
        }
        taken.iter().for_each(|id| {
            self.ready.remove(id);
        });
        taken.into_iter().map(|id| self.taken(id)).collect()
    }

    /// An order with the values of its inputs, unless its result was expected from the store and they were not computed.
    fn taken(&self, id: OrderId) -> Taken {
        let node = &self.graph[id];
        let values = node.order.inputs().into_iter().map(|input| match &self.graph[input].phase {
            Phase::Done(value) => Some(Given::Value(value.clone())),
            Phase::Shelved => Some(Given::Shelved(self.graph[input].key)),
            _ => None,
        });
        Taken { id, inputs: values.collect(), order: node.order.clone(), key: node.key }
    }

    /// Puts an order whose inputs are there, or whose result is in the store, in line for the workers.
    pub fn start(&mut self, id: OrderId) {
        self.graph[id].phase = Phase::Started;
        self.ready.insert(id);
    }

    /// Takes a result, and puts those in line that waited for it alone.
    pub fn complete(&mut self, finished: Finished, phase: Phase) {
        let id = finished.order;
        self.under_way.remove(&finished.key);
        self.finished.push(finished);
        self.graph[id].phase = phase;
        // One edge for each use, as in the count of missing inputs.
        let users: Vec<OrderId> = self.graph.neighbors_directed(id, Direction::Outgoing).collect();
        for user in users {
            if let Phase::Waiting(missing) = &mut self.graph[user].phase {
                *missing -= 1;
                if *missing == 0 {
                    self.start(user);
                }
            }
        }
        if std::mem::take(&mut self.graph[id].holds_inputs) {
            self.graph[id].order.inputs().into_iter().for_each(|input| self.release(input));
        }
    }

    /// Gives up one hold; the last one lets the value go.
    pub fn release(&mut self, id: OrderId) {
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
        let layout = Arc::new(Layout { modules: vec![], rank: 1, alpha: 1.0, rank_stabilised: false });
        let adapter = Arc::new(Adapter::zeros(layout));
        let mut state = State::default();
        for name in ["a", "a", "b"] {
            let order = Order::Given { adapter: adapter.clone() };
            let (key, phase) = (key_of("test", &name), Phase::Planned);
            let id = state.graph.add_node(Node { order, key, phase, holds: 1, holds_inputs: false, result: None });
            state.start(id);
        }
        let places = |taken: &[Taken]| taken.iter().map(|taken| taken.id.index()).collect::<Vec<_>>();
        assert_eq!(places(&state.pop(1)), [0]);
        assert_eq!(places(&state.pop(3)), [2]);
        assert!(state.pop(3).is_empty());
        let (order, key) = (OrderId::new(0), key_of("test", &"a"));
        let finished = Finished { order, kind: "given", key, from_store: false, trainings: 0, seconds: 0.0 };
        state.complete(finished, Phase::Shelved);
        assert_eq!(places(&state.pop(3)), [1]);
    }
}
