//! Executor: computes demanded nodes on a number of worker threads, in plan order as far as inputs allow.
//!
//! A node is a pure function of its inputs, so it does not matter for the bits which worker computes it, and when. Values
//! are counted references: a value stays in memory while a caller or a demanded node holds it. An evaluation is cut into
//! parts of constant size, which all workers take before other nodes; the worker that computes the last part assembles
//! the result in the order of the rows.
//!
//! All common state is behind one mutex, which is held for bookkeeping only and never while a node is computed. Waiting
//! threads sleep on one condition variable; everything that may let a thread continue notifies all of them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::divided::Part;
use super::divided::{Claimed, NodeInput};
use super::state::{Finished, NodeState, Phase, State};
use super::{Compute, GraphError, Node, NodeId, Value, WorkCounters};
use crate::store::{Digest, Key, Recipe, Store};

/// Interval at which a waiting thread checks whether the run was asked to stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// Graph of the nodes of one run, with the common state of its workers.
pub struct Executor<'a> {
    computes: &'a [Compute<'a>],
    store: &'a Store,
    stop: &'a AtomicBool,
    /// [clients] -- Maximum number of trainings in one pass.
    cohort: usize,
    state: Mutex<State>,
    changed: Condvar,
    counters: Arc<WorkCounters>,
}

/// Lineage of a node: what its value was computed from.
pub struct Recorded {
    pub id: NodeId,
    pub kind: &'static str,
    pub inputs: Vec<NodeId>,
    pub recipe: Recipe,
    pub key: Key,
    /// Hash of the value; `None` if no caller has taken it.
    pub result: Option<Digest>,
}

/// Next piece of work for a worker.
enum Work {
    /// Nodes that are computed together.
    Nodes(Vec<Claimed>),
    /// One part of an evaluation in progress.
    Part(Part),
}

/// Node with its value.
struct Done {
    claimed: Claimed,
    value: Value,
    from_store: bool,
}

impl<'a> Executor<'a> {
    /// Creates an executor without nodes, which trains up to `cohort` clients in one pass. A pass takes as many as are
    /// ready, so more than one requires batch-invariant training. The compute backends, one per device, must give the same
    /// bits. `stop` ends all waiting with [`GraphError::Interrupted`].
    ///
    /// # Panics
    /// If `computes` is empty.
    pub fn new(computes: &'a [Compute<'a>], store: &'a Store, stop: &'a AtomicBool, cohort: usize) -> Self {
        assert!(!computes.is_empty(), "orders are computed somewhere");
        Self {
            computes,
            store,
            stop,
            cohort,
            state: Mutex::default(),
            changed: Condvar::new(),
            counters: Arc::default(),
        }
    }

    /// Runs `body` while `workers` worker threads compute nodes, distributed over the compute backends. The workers stop
    /// when `body` returns.
    pub fn run<T>(&self, workers: usize, body: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            // The scope joins the workers, so they have to be told to end even if `body` panics, or one cannot be started.
            let closing = Closing(self);
            for compute in self.computes.iter().cycle().take(workers) {
                scope.spawn(|| self.work(compute));
            }
            let result = body();
            drop(closing);
            result
        })
    }

    /// Returns the work counters, which may be read from any thread while work is in progress.
    pub fn counters(&self) -> Arc<WorkCounters> {
        self.counters.clone()
    }

    /// Returns the digest of base model and numerics, which all compute backends share.
    fn engine(&self) -> Digest {
        self.computes[0].engine()
    }

    /// Adds a node to the graph. It is computed when it is demanded, or when a demanded node needs it.
    pub fn add(&self, node: Node) -> NodeId {
        let mut state = self.lock();
        let key = node.recipe(self.engine(), &|input| state.graph[input].key).key();
        let inputs = node.inputs();
        let planned = NodeState { node, key, phase: Phase::Planned, holds: 0, holds_inputs: false, result: None };
        let id = state.graph.add_node(planned);
        // One edge per use: an input that is used twice has two edges, and is counted twice among missing inputs.
        for input in inputs {
            state.graph.add_edge(input, id, ());
        }
        id
    }

    /// Returns the number of nodes. Nodes are numbered from 0 in the order in which they were added.
    pub fn count(&self) -> usize {
        self.lock().graph.node_count()
    }

    /// Returns the lineage of the nodes with these numbers. Results are known for nodes whose values were taken.
    pub fn recorded(&self, nodes: Range<usize>) -> Vec<Recorded> {
        let state = self.lock();
        let mut recorded = Vec::with_capacity(nodes.len());
        for index in nodes {
            let id = NodeId::new(index);
            let NodeState { node, key, result, .. } = &state.graph[id];
            let recipe = node.recipe(self.engine(), &|input| state.graph[input].key);
            let kind = node.kind();
            let inputs = node.inputs();
            recorded.push(Recorded { id, kind, inputs, recipe, key: *key, result: *result });
        }
        recorded
    }

    /// Returns the key of a node.
    pub fn key(&self, id: NodeId) -> Key {
        self.lock().graph[id].key
    }

    /// Demands the value of a node: it is computed, and held until it is taken with [`Self::take`], once per demand.
    pub fn demand(&self, id: NodeId) {
        let mut state = self.lock();
        self.hold(&mut state, id);
        self.changed.notify_all();
    }

    /// Supplies the value of a node that is not to be computed. It is held for the lifetime of the executor.
    pub fn give(&self, id: NodeId, value: Value) {
        let node = &mut self.lock().graph[id];
        node.holds += 1;
        node.phase = Phase::Done(value);
    }

    /// Waits for the value of a demanded node and releases the caller's hold on it.
    ///
    /// # Errors
    /// The first failure of any node, or [`GraphError::Interrupted`] if the run was asked to stop.
    pub fn take(&self, id: NodeId) -> Result<Value, GraphError> {
        let value = self.wait(id)?;
        // Hashing reads every tensor of the value, so it happens outside of the lock. Two callers that hash the same value
        // at once write the same digest.
        if self.lock().graph[id].result.is_none() {
            let hash = value.hash();
            self.lock().graph[id].result = Some(hash);
        }
        Ok(value)
    }

    /// Waits for a value and releases the caller's hold on it.
    fn wait(&self, id: NodeId) -> Result<Value, GraphError> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = state.failure.take() {
                // The workers end with the first failure, so no value that is still missing will be computed. One caller
                // gets the failure itself, as errors cannot be cloned; `closed` ends the others.
                state.closed = true;
                self.changed.notify_all();
                return Err(failure);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(GraphError::Interrupted);
            }
            if let Phase::Done(value) = &state.graph[id].phase {
                let value = value.clone();
                state.release(id);
                return Ok(value);
            }
            if state.closed {
                return Err(GraphError::Interrupted);
            }
            state = self.changed.wait_timeout(state, STOP_POLL).expect("no worker panics with the lock").0;
        }
    }

    /// Releases the caller's hold on a demanded node without waiting for its value.
    pub fn release(&self, id: NodeId) {
        self.lock().release(id);
    }

    /// Returns the nodes that were finished since the last call, in the order in which they finished.
    pub fn finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.lock().finished)
    }

    /// Adds a hold to a node. If nothing held it before, schedules it and everything that it needs.
    fn hold(&self, state: &mut State, id: NodeId) {
        // Walks the graph toward the inputs with an explicit stack: chains are as long as the run has rounds.
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            state.graph[id].holds += 1;
            // A node that was scheduled before holds its own inputs already.
            if !matches!(state.graph[id].phase, Phase::Planned) {
                continue;
            }
            // A stored result needs no inputs, so the walk ends here.
            if self.store.contains(state.graph[id].key) {
                state.start(id);
                continue;
            }
            self.counters.want(&state.graph[id].node);
            let inputs = state.graph[id].node.inputs();
            let missing = inputs.iter().filter(|&&input| !state.graph[input].phase.is_done()).count();
            state.graph[id].phase = Phase::Waiting(missing);
            state.graph[id].holds_inputs = true;
            if missing == 0 {
                state.start(id);
            }
            // Inputs that are done get their hold too, or they would be released before this node is computed.
            pending.extend(inputs);
        }
    }

    /// Computes work until the executor is closed or a node fails: the body of a worker thread.
    fn work(&self, compute: &Compute) {
        let _announcing = AnnouncingPanics(self);
        while let Some(work) = self.next() {
            let computed = match work {
                Work::Nodes(claimed) => self.compute_nodes(compute, claimed),
                Work::Part(part) => self.compute_part(compute, &part),
            };
            if let Err(error) = computed {
                self.fail(error);
            }
        }
    }

    /// Computes nodes together, or finds their results in the store, and completes them.
    fn compute_nodes(&self, compute: &Compute, claimed: Vec<Claimed>) -> Result<(), GraphError> {
        let trainings = claimed.iter().map(|claimed| claimed.node.trainings()).sum();
        let _under_way = self.counters.begin(claimed[0].node.kind(), trainings);
        let began = Instant::now();
        let done = self.results(compute, claimed)?;
        // Nodes of one pass share its time equally.
        let seconds = began.elapsed().as_secs_f64() / done.len().max(1) as f64;
        for done in done {
            self.finish(done, seconds);
        }
        Ok(())
    }

    /// Computes one part of an evaluation; the worker with the last part completes the node.
    fn compute_part(&self, compute: &Compute, part: &Part) -> Result<(), GraphError> {
        let Part { evaluation, index, .. } = part;
        let _under_way = self.counters.begin("evaluate", 0);
        let began = Instant::now();
        let scores = compute.evaluate_part(evaluation, *index)?;
        let tokens = evaluation.part(*index).iter().map(|sample| sample.ids.len() as u64).sum();
        self.counters.evaluated(evaluation.rows_of_part(*index), tokens);
        let last = self.lock().divided.complete_part(part, scores, began.elapsed().as_secs_f64());
        let Some(mut divided) = last else { return Ok(()) };
        let value = divided.value();
        self.store.put(divided.claimed.key, &value.to_bytes())?;
        let seconds = divided.seconds;
        self.finish(Done { claimed: divided.claimed, value, from_store: false }, seconds);
        Ok(())
    }

    /// Returns the values of nodes that are computed together. Nodes whose stored results are damaged and whose inputs
    /// were not computed are rescheduled. An evaluation is divided into parts for all workers.
    fn results(&self, compute: &Compute, nodes: Vec<Claimed>) -> Result<Vec<Done>, GraphError> {
        // The store is asked again, even for nodes that were not in it when they were demanded: another node with the
        // same key, in this run or in another process, may have been computed meanwhile.
        let mut done = Vec::new();
        let mut missing = Vec::new();
        for claimed in nodes {
            let stored = self.load(claimed.key).filter(|value| Compute::can_have(&claimed.node, value));
            match (stored, claimed.inputs.is_some()) {
                (Some(value), _) => done.push(Done { claimed, value, from_store: true }),
                (None, true) => missing.push(claimed),
                (None, false) => self.retry(claimed.id),
            }
        }
        // Parts help only if the evaluation is alone and has any: it has none without rows.
        if let [one] = &missing[..]
            && matches!(one.node, Node::Evaluate { .. })
        {
            let evaluation = compute.divide(&one.node, &self.input_values(one.computed_inputs())?)?;
            if evaluation.part_count() > 0 {
                self.lock().divided.push(missing.remove(0), evaluation);
                self.changed.notify_all();
                return Ok(done);
            }
        }
        let values = self.compute(compute, &missing)?;
        done.extend(missing.into_iter().zip(values).map(|(claimed, value)| Done { claimed, value, from_store: false }));
        Ok(done)
    }

    /// Returns the values of inputs, reading back those that are only in the store.
    fn input_values(&self, inputs: &[NodeInput]) -> Result<Vec<Value>, GraphError> {
        let mut values = Vec::with_capacity(inputs.len());
        for input in inputs {
            values.push(match input {
                NodeInput::Value(value) => value.clone(),
                NodeInput::InStore(key) => self.load(*key).ok_or(GraphError::Lost { key: *key })?,
            });
        }
        Ok(values)
    }

    /// Reads a result from the store; `None` if it is missing or damaged.
    fn load(&self, key: Key) -> Option<Value> {
        self.store.get(key).and_then(|bytes| Value::from_bytes(&bytes))
    }

    /// Computes nodes and stores their values. If there is more than one, all are trainings, which share a pass.
    fn compute(&self, compute: &Compute, nodes: &[Claimed]) -> Result<Vec<Value>, GraphError> {
        let values = match nodes {
            [] => return Ok(vec![]),
            [one] => vec![compute.compute(&one.node, &self.input_values(one.computed_inputs())?, &self.counters)?],
            several => {
                let inputs = several
                    .iter()
                    .map(|one| self.input_values(one.computed_inputs()))
                    .collect::<Result<Vec<_>, _>>()?;
                let trainings: Vec<_> =
                    several.iter().zip(&inputs).map(|(one, inputs)| (&one.node, &inputs[..])).collect();
                compute.train(&trainings, &self.counters)?.into_iter().map(Value::Trained).collect()
            }
        };
        // Stored before the node completes, so that a killed run never has a recorded result without its value.
        for (claimed, value) in nodes.iter().zip(&values) {
            self.store.put(claimed.key, &value.to_bytes())?;
        }
        Ok(values)
    }

    /// Waits for work: the next part of an evaluation in progress, or else the first node in plan order whose inputs are
    /// done; a training comes with others that are ready. Returns `None` when the executor is closed or failed.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.closed || state.failure.is_some() || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(part) = state.divided.take_part() {
                return Some(Work::Part(part));
            }
            let claimed = state.pop(self.cohort);
            if !claimed.is_empty() {
                return Some(Work::Nodes(claimed));
            }
            state = self.changed.wait_timeout(state, STOP_POLL).expect("no worker panics with the lock").0;
        }
    }

    /// Reschedules a node whose stored result turned out to be damaged, so that its inputs are needed after all.
    fn retry(&self, id: NodeId) {
        let mut state = self.lock();
        let key = state.graph[id].key;
        // Forgotten first: `hold` would find the damaged result in the store again.
        self.store.forget(key);
        state.under_way.remove(&key);
        state.graph[id].phase = Phase::Planned;
        // `hold` adds one, so the number of holds stays the same.
        state.graph[id].holds -= 1;
        self.hold(&mut state, id);
        self.changed.notify_all();
    }

    /// Completes a node with its value, and schedules the nodes that waited for it.
    fn finish(&self, done: Done, seconds: f64) {
        let Done { claimed, value, from_store } = done;
        match self.computes[0].accept(&claimed.node, value) {
            Ok(value) => {
                let finished = Finished {
                    id: claimed.id,
                    kind: claimed.node.kind(),
                    key: claimed.key,
                    from_store,
                    trainings: claimed.node.trainings(),
                    seconds,
                };
                // Client state is as large as an adapter per client. Between two tasks of a client it stays in the store
                // alone, provided that the store has it.
                let is_stored_only = value.is_client_state() && self.store.contains(claimed.key);
                let mut state = self.lock();
                if !from_store {
                    self.counters.trained(&claimed.node, value.trained_tokens());
                } else if state.graph[claimed.id].holds_inputs {
                    // It was not expected in the store: a node with the same key was computed meanwhile.
                    self.counters.found(&claimed.node);
                }
                state.complete(finished, if is_stored_only { Phase::InStore } else { Phase::Done(value) });
            }
            Err(error) => self.fail(error),
        }
        self.changed.notify_all();
    }

    /// Records the first error, which ends all waiting.
    fn fail(&self, error: GraphError) {
        self.lock().failure.get_or_insert(error);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no worker panics with the lock")
    }
}

/// Guard that ends all waiting when its worker panics, so that the thread scope can report the panic.
struct AnnouncingPanics<'a, 'b>(&'a Executor<'b>);

impl Drop for AnnouncingPanics<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            state.failure.get_or_insert(GraphError::Interrupted);
            self.0.changed.notify_all();
        }
    }
}

/// Guard that ends the workers when the body of [`Executor::run`] is left, by return or by panic.
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
