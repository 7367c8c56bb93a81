//! Computes demanded orders on a number of workers, in plan order as far as inputs allow.
//!
//! Which worker takes which order, and when, changes no bit: an order is a function of its inputs. A value is kept in
//! memory only while somebody who was demanded still needs it. An evaluation is cut into parts of constant size, which all
//! workers take before other orders: the one that computes the last part puts the results together in the order of the rows.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::divided::Part;
use super::state::{Finished, Node, Phase, State};
use super::taken::{Given, Taken};
use super::{Order, OrderError, OrderId, Value, WorkCounters, Workshop};
use crate::store::{Digest, Key, Recipe, Store};

/// How often a waiting thread looks whether the run was asked to stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// The graph of orders of one run and the workers' common state.
pub struct Executor<'a> {
    workshops: &'a [Workshop<'a>],
    store: &'a Store,
    stop: &'a AtomicBool,
    /// [clients] Trainings in one pass.
    cohort: usize,
    state: Mutex<State>,
    changed: Condvar,
    counters: Arc<WorkCounters>,
}

/// The lineage of an order.
pub struct Recorded {
    pub order: OrderId,
    pub kind: &'static str,
    pub inputs: Vec<OrderId>,
    pub recipe: Recipe,
    pub key: Key,
    /// The hash of its value.
    pub result: Option<Digest>,
}

/// What a worker does next.
enum Work {
    /// Orders that are computed together.
    Orders(Vec<Taken>),
    /// A part of an evaluation under way.
    Part(Part),
}

/// An order with its value.
struct Done {
    taken: Taken,
    value: Value,
    from_store: bool,
}

impl<'a> Executor<'a> {
    /// An executor without orders, which trains up to `cohort` clients in one pass: as many as are ready, since their bits
    /// must not depend on company. The workshops give the same bits, one on each device. `stop` ends all waiting with
    /// [`OrderError::Interrupted`].
    ///
    /// # Panics
    /// If there is no workshop.
    pub fn new(workshops: &'a [Workshop<'a>], store: &'a Store, stop: &'a AtomicBool, cohort: usize) -> Self {
        assert!(!workshops.is_empty(), "orders are computed somewhere");
        Self {
            workshops,
            store,
            stop,
            cohort,
            state: Mutex::default(),
            changed: Condvar::new(),
            counters: Arc::default(),
        }
    }

    /// Runs `body` beside so many workers, dealt over the workshops, which stop when it returns.
    pub fn run<T>(&self, workers: usize, body: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for workshop in self.workshops.iter().cycle().take(workers) {
                scope.spawn(|| self.work(workshop));
            }
            let closing = Closing(self);
            let result = body();
            drop(closing);
            result
        })
    }

    /// Counts of the work, which may be read while it goes on.
    pub fn counters(&self) -> Arc<WorkCounters> {
        self.counters.clone()
    }

    fn engine(&self) -> Digest {
        self.workshops[0].engine()
    }

    /// Adds an order to the graph; it is computed when it is demanded, or when something demanded needs it.
    pub fn add(&self, order: Order) -> OrderId {
        let mut state = self.lock();
        let key = order.recipe(self.engine(), &|input| state.graph[input].key).key();
        let inputs = order.inputs();
        let (phase, result) = (Phase::Planned, None);
        let id = state.graph.add_node(Node { order, key, phase, holds: 0, holds_inputs: false, result });
        for input in inputs {
            state.graph.add_edge(input, id, ());
        }
        id
    }

    /// How many orders there are. They are numbered in the order of their adding.
    pub fn count(&self) -> usize {
        self.lock().graph.node_count()
    }

    /// What the lineage of orders with these numbers is. A result is known of those whose values were taken.
    pub fn recorded(&self, orders: Range<usize>) -> Vec<Recorded> {
        let state = self.lock();
        let record = |index: usize| {
            let id = OrderId::new(index);
            let Node { order, key, result, .. } = &state.graph[id];
            let recipe = order.recipe(self.engine(), &|input| state.graph[input].key);
            Recorded { order: id, kind: order.kind(), inputs: order.inputs(), recipe, key: *key, result: *result }
        };
        orders.map(record).collect()
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

    /// Hands in the value of an order that is not to be computed. It is kept for as long as the executor is.
    pub fn give(&self, id: OrderId, value: Value) {
        let node = &mut self.lock().graph[id];
        node.holds += 1;
        node.phase = Phase::Done(value);
    }

    /// Waits for the value of a demanded order and gives up the caller's hold on it.
    ///
    /// # Errors
    /// The first failure of any order, or that the run was asked to stop.
    pub fn take(&self, id: OrderId) -> Result<Value, OrderError> {
        let value = self.wait(id)?;
        if self.lock().graph[id].result.is_none() {
            let hash = value.hash();
            self.lock().graph[id].result = Some(hash);
        }
        Ok(value)
    }

    fn wait(&self, id: OrderId) -> Result<Value, OrderError> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = state.failure.take() {
                // The workers end with the first failure, so nothing that is not done yet will be.
                state.closed = true;
                self.changed.notify_all();
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
            if state.closed {
                return Err(OrderError::Interrupted);
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
            self.counters.want(&state.graph[id].order);
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

    fn work(&self, workshop: &Workshop) {
        let _announcing = AnnouncingPanics(self);
        while let Some(work) = self.next() {
            let computed = match work {
                Work::Orders(taken) => self.compute_orders(workshop, taken),
                Work::Part(part) => self.compute_part(workshop, &part),
            };
            if let Err(error) = computed {
                self.fail(error);
            }
        }
    }

    fn compute_orders(&self, workshop: &Workshop, taken: Vec<Taken>) -> Result<(), OrderError> {
        let trainings = taken.iter().map(|taken| taken.order.trainings()).sum();
        let _under_way = self.counters.begin(taken[0].order.kind(), trainings);
        let began = Instant::now();
        let done = self.results(workshop, taken)?;
        let seconds = began.elapsed().as_secs_f64() / done.len().max(1) as f64;
        for done in done {
            self.finish(done, seconds);
        }
        Ok(())
    }

    fn compute_part(&self, workshop: &Workshop, part: &Part) -> Result<(), OrderError> {
        let Part { evaluation, index, .. } = part;
        let _under_way = self.counters.begin("evaluate", 0);
        let began = Instant::now();
        let scores = workshop.evaluate_part(evaluation, *index)?;
        let tokens = evaluation.part(*index).iter().map(|sample| sample.ids.len() as u64).sum();
        self.counters.evaluated(evaluation.rows_of_part(*index), tokens);
        let last = self.lock().divided.complete_part(part, scores, began.elapsed().as_secs_f64());
        let Some(mut divided) = last else { return Ok(()) };
        let value = divided.value();
        self.store.put(divided.taken.key, &value.to_bytes())?;
        let seconds = divided.seconds;
        self.finish(Done { taken: divided.taken, value, from_store: false }, seconds);
        Ok(())
    }

    /// The values of orders that are computed together. Those whose stored results turn out to be damaged, and whose inputs
    /// are not there, are put back; an evaluation is divided, and left to all workers.
    fn results(&self, workshop: &Workshop, taken: Vec<Taken>) -> Result<Vec<Done>, OrderError> {
        let (mut done, mut missing) = (Vec::new(), Vec::new());
        for taken in taken {
            match (self.load(taken.key), taken.inputs.is_some()) {
                (Some(value), _) => done.push(Done { taken, value, from_store: true }),
                (None, true) => missing.push(taken),
                (None, false) => self.retry(taken.id),
            }
        }
        if let [one] = &missing[..]
            && matches!(one.order, Order::Evaluate { .. })
        {
            let evaluation = workshop.divide(&one.order, &self.given(one.given())?)?;
            if evaluation.part_count() > 0 {
                self.lock().divided.push(missing.remove(0), evaluation);
                self.changed.notify_all();
                return Ok(done);
            }
        }
        let values = self.compute(workshop, &missing)?;
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
    fn compute(&self, workshop: &Workshop, taken: &[Taken]) -> Result<Vec<Value>, OrderError> {
        let values = match taken {
            [] => return Ok(vec![]),
            [one] => vec![workshop.compute(&one.order, &self.given(one.given())?, &self.counters)?],
            several => {
                let inputs = several.iter().map(|one| self.given(one.given())).collect::<Result<Vec<_>, _>>()?;
                let orders: Vec<_> =
                    several.iter().zip(&inputs).map(|(one, inputs)| (&one.order, &inputs[..])).collect();
                workshop.train(&orders, &self.counters)?.into_iter().map(Value::Trained).collect()
            }
        };
        for (taken, value) in taken.iter().zip(&values) {
            self.store.put(taken.key, &value.to_bytes())?;
        }
        Ok(values)
    }

    /// The next part of an evaluation under way, or the next order in plan order whose inputs are there; if it is a training,
    /// with others that are ready. None when all is over.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.closed || state.failure.is_some() || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(part) = state.divided.take_part() {
                return Some(Work::Part(part));
            }
            let taken = state.pop(self.cohort);
            if !taken.is_empty() {
                return Some(Work::Orders(taken));
            }
            state = self.changed.wait_timeout(state, STOP_POLL).expect("no worker panics with the lock").0;
        }
    }

    /// A stored result turned out to be damaged: its inputs are needed after all.
    fn retry(&self, id: OrderId) {
        let mut state = self.lock();
        let key = state.graph[id].key;
        self.store.forget(key);
        state.under_way.remove(&key);
        state.graph[id].phase = Phase::Planned;
        state.graph[id].holds -= 1;
        self.hold(&mut state, id);
        self.changed.notify_all();
    }

    fn finish(&self, done: Done, seconds: f64) {
        let Done { taken, value, from_store } = done;
        match self.workshops[0].accept(&taken.order, value) {
            Ok(value) => {
                let Taken { id: order, key, .. } = taken;
                let shelves = value.is_kept_by_a_client() && self.store.contains(key);
                let (kind, trainings) = (taken.order.kind(), taken.order.trainings());
                let finished = Finished { order, kind, key, from_store, trainings, seconds };
                let mut state = self.lock();
                if !from_store {
                    self.counters.trained(&taken.order, value.trained_tokens());
                } else if state.graph[order].holds_inputs {
                    // It was not expected in the store: an order with the same key was computed meanwhile.
                    self.counters.found(&taken.order);
                }
                state.complete(finished, if shelves { Phase::Shelved } else { Phase::Done(value) });
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
