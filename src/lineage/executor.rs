//! Computes demanded orders on a number of workers, in plan order as far as inputs allow.
//!
//! Which worker takes which order, and when, changes no bit: an order is a function of its inputs. A value is kept in
//! memory only while somebody who was demanded still needs it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use petgraph::Direction;
use petgraph::graph::DiGraph;

use super::{Order, OrderError, OrderId, Value, Workshop};
use crate::store::{Key, Store};

/// How often a waiting thread looks whether the run was asked to stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// A finished order: wall-clock facts for the timing table.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub order: OrderId,
    pub kind: &'static str,
    pub key: Key,
    pub from_store: bool,
    /// [s] Wall-clock time.
    pub seconds: f64,
}

/// The graph of orders of one run and the workers' common state.
pub struct Executor<'a> {
    workshop: &'a Workshop<'a>,
    store: &'a Store,
    stop: &'a AtomicBool,
    /// [clients] Trainings in one pass.
    cohort: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    graph: DiGraph<Node, ()>,
    ready: BTreeSet<OrderId>,
    finished: Vec<Finished>,
    failure: Option<OrderError>,
    closed: bool,
}

struct Node {
    order: Order,
    key: Key,
    phase: Phase,
    /// How many demanded orders and callers still need the value.
    holds: usize,
    /// Whether this order holds its inputs: not if its result was expected from the store.
    holds_inputs: bool,
}

enum Phase {
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
    fn is_done(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Shelved)
    }
}

/// An input of an order that is about to be computed.
enum Given {
    Value(Value),
    Shelved(Key),
}

/// An order in a worker's hands.
struct Taken {
    id: OrderId,
    order: Order,
    key: Key,
    inputs: Option<Vec<Given>>,
}

impl Taken {
    fn given(&self) -> &[Given] {
        self.inputs.as_deref().expect("orders without inputs are loaded or put back")
    }
}

/// An order with its value.
struct Done {
    taken: Taken,
    value: Value,
    from_store: bool,
}

impl<'a> Executor<'a> {
    /// An executor without orders, which trains up to `cohort` clients in one pass: as many as are ready, since their bits
    /// must not depend on company. `stop` ends all waiting with [`OrderError::Interrupted`].
    pub fn new(workshop: &'a Workshop<'a>, store: &'a Store, stop: &'a AtomicBool, cohort: usize) -> Self {
        Self { workshop, store, stop, cohort, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Runs `body` beside so many workers, which stop when it returns.
    pub fn run<T>(&self, workers: usize, body: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.work());
            }
            let closing = Closing(self);
            let result = body();
            drop(closing);
            result
        })
    }

    /// Adds an order to the graph; it is computed when it is demanded, or when something demanded needs it.
    pub fn add(&self, order: Order) -> OrderId {
        let mut state = self.lock();
        let key = order.key(self.workshop.engine(), &|input| state.graph[input].key);
        let inputs = order.inputs();
        let id = state.graph.add_node(Node { order, key, phase: Phase::Planned, holds: 0, holds_inputs: false });
        for input in inputs {
            state.graph.add_edge(input, id, ());
        }
        id
    }

    /// The key of an order.
    pub fn key(&self, id: OrderId) -> Key {
        self.lock().graph[id].key
    }

    /// Asks for the value of an order and keeps it until it is taken by [`Self::take`], once for each demand.
    pub fn demand(&self, id: OrderId) {
        let mut state = self.lock();
        self.hold(&mut state, id);
        self.changed.notify_all();
    }

    /// Waits for the value of a demanded order and gives up the caller's hold on it.
    ///
    /// # Errors
    /// The first failure of any order, or that the run was asked to stop.
    pub fn take(&self, id: OrderId) -> Result<Value, OrderError> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(OrderError::Interrupted);
            }
            if let Phase::Done(value) = &state.graph[id].phase {
                let value = value.clone();
                state.release(id);
                return Ok(value);
            }
            state = self.changed.wait_timeout(state, STOP_POLL).expect("no worker panics with the lock").0;
        }
    }

    /// Gives up the caller's hold on a demanded order without waiting for its value.
    pub fn let_go(&self, id: OrderId) {
        self.lock().release(id);
    }

    /// What was finished since the last call, in the order in which it was.
    pub fn finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.lock().finished)
    }

    /// Adds a hold and, for an order that nobody held, sees that it will be computed.
    fn hold(&self, state: &mut State, id: OrderId) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            state.graph[id].holds += 1;
            if !matches!(state.graph[id].phase, Phase::Planned) {
                continue;
            }
            if self.store.contains(state.graph[id].key) {
                state.start(id);
                continue;
            }
            let inputs = state.graph[id].order.inputs();
            let missing = inputs.iter().filter(|&&input| !state.graph[input].phase.is_done()).count();
            state.graph[id].phase = Phase::Waiting(missing);
            state.graph[id].holds_inputs = true;
            if missing == 0 {
                state.start(id);
            }
            pending.extend(inputs);
        }
    }

    fn work(&self) {
        let _announcing = AnnouncingPanics(self);
        while let Some(taken) = self.next() {
            let began = Instant::now();
            let done = self.results(taken);
            let seconds = began.elapsed().as_secs_f64() / done.as_ref().map_or(1, Vec::len).max(1) as f64;
            match done {
                Ok(done) => done.into_iter().for_each(|done| self.finish(done, seconds)),
                Err(error) => self.fail(error),
            }
        }
    }

    /// The values of orders that are computed together. Those whose stored results turn out to be damaged, and whose inputs
    /// are not there, are put back.
    fn results(&self, taken: Vec<Taken>) -> Result<Vec<Done>, OrderError> {
        let (mut done, mut missing) = (Vec::new(), Vec::new());
        for taken in taken {
            match (self.load(taken.key), taken.inputs.is_some()) {
                (Some(value), _) => done.push(Done { taken, value, from_store: true }),
                (None, true) => missing.push(taken),
                (None, false) => self.retry(taken.id),
            }
        }
        let values = self.compute(&missing)?;
        done.extend(missing.into_iter().zip(values).map(|(taken, value)| Done { taken, value, from_store: false }));
        Ok(done)
    }

    fn given(&self, inputs: &[Given]) -> Result<Vec<Value>, OrderError> {
        let value = |input: &Given| match input {
            Given::Value(value) => Ok(value.clone()),
            Given::Shelved(key) => self.load(*key).ok_or(OrderError::Lost { key: *key }),
        };
        inputs.iter().map(value).collect()
    }

    fn load(&self, key: Key) -> Option<Value> {
        self.store.get(key).and_then(|bytes| Value::from_bytes(&bytes))
    }

    /// Several orders are all trainings.
    fn compute(&self, taken: &[Taken]) -> Result<Vec<Value>, OrderError> {
        let values = match taken {
            [] => return Ok(vec![]),
            [one] => vec![self.workshop.compute(&one.order, &self.given(one.given())?)?],
            several => {
                let inputs = several.iter().map(|one| self.given(one.given())).collect::<Result<Vec<_>, _>>()?;
                let orders: Vec<_> =
                    several.iter().zip(&inputs).map(|(one, inputs)| (&one.order, &inputs[..])).collect();
                self.workshop.train(&orders)?.into_iter().map(Value::Trained).collect()
            }
        };
        for (taken, value) in taken.iter().zip(&values) {
            self.store.put(taken.key, &value.to_bytes())?;
        }
        Ok(values)
    }

    /// The next order in plan order whose inputs are there; if it is a training, with others that are ready. None when all
    /// is over.
    fn next(&self) -> Option<Vec<Taken>> {
        let mut state = self.lock();
        loop {
            if state.closed || state.failure.is_some() || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(id) = state.ready.pop_first() {
                let mut ids = vec![id];
                if self.cohort > 1 && state.can_train(id) {
                    let others = state.ready.iter().copied().filter(|&other| state.can_train(other));
                    ids.extend(others.take(self.cohort - 1));
                }
                ids.iter().for_each(|id| {
                    state.ready.remove(id);
                });
                return Some(ids.into_iter().map(|id| state.taken(id)).collect());
            }
            state = self.changed.wait_timeout(state, STOP_POLL).expect("no worker panics with the lock").0;
        }
    }

    /// A stored result turned out to be damaged: its inputs are needed after all.
    fn retry(&self, id: OrderId) {
        let mut state = self.lock();
        let key = state.graph[id].key;
        self.store.forget(key);
        state.graph[id].phase = Phase::Planned;
        state.graph[id].holds -= 1;
        self.hold(&mut state, id);
        self.changed.notify_all();
    }

    fn finish(&self, done: Done, seconds: f64) {
        let Done { taken, value, from_store } = done;
        match self.workshop.accept(&taken.order, value) {
            Ok(value) => {
                let Taken { id: order, key, .. } = taken;
                let shelves = value.is_kept_by_a_client() && self.store.contains(key);
                let finished = Finished { order, kind: taken.order.kind(), key, from_store, seconds };
                self.lock().complete(finished, if shelves { Phase::Shelved } else { Phase::Done(value) });
            }
            Err(error) => self.fail(error),
        }
        self.changed.notify_all();
    }

    /// Ends all waiting with the first error.
    fn fail(&self, error: OrderError) {
        self.lock().failure.get_or_insert(error);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no worker panics with the lock")
    }
}

impl State {
    /// Whether an order is a training whose inputs are there.
    fn can_train(&self, id: OrderId) -> bool {
        let order = &self.graph[id].order;
        matches!(order, Order::Train { .. }) && order.inputs().iter().all(|&input| self.graph[input].phase.is_done())
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

    fn start(&mut self, id: OrderId) {
        self.graph[id].phase = Phase::Started;
        self.ready.insert(id);
    }

    fn complete(&mut self, finished: Finished, phase: Phase) {
        let id = finished.order;
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
    fn release(&mut self, id: OrderId) {
        let node = &mut self.graph[id];
        node.holds = node.holds.checked_sub(1).expect("every release answers a hold");
        if node.holds == 0 && node.phase.is_done() {
            node.phase = Phase::Planned;
        }
    }
}

/// Makes a worker's panic the end of all waiting, so that the scope can report it.
struct AnnouncingPanics<'a, 'b>(&'a Executor<'b>);

impl Drop for AnnouncingPanics<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            state.failure.get_or_insert(OrderError::Interrupted);
            self.0.changed.notify_all();
        }
    }
}

/// Ends the workers when the body of [`Executor::run`] is left, by return or by panic.
struct Closing<'a, 'b>(&'a Executor<'b>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        // A poisoned lock means that a worker panicked; the scope reports that.
        if let Ok(mut state) = self.0.state.lock() {
            state.closed = true;
        }
        self.0.changed.notify_all();
    }
}
