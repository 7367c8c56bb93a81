//! Computation of single nodes from the values of their inputs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::evaluation::{Evaluation, PartScores};
use super::node::{Control, FirstStep, Node};
use super::scheduled_evaluation::EvalResources;
use super::value::{Ranking, Trained, TrainedRecord, Value};
use super::work::WorkCounters;
use super::{GraphError, attack, compress, prune};
use crate::adapter::Adapter;
use crate::algorithm;
use crate::algorithm::{
    ControlChange, MeanUpdate, OwnStep, ReceivedUpdate, RobustContext, RuleError, ServerRule, ServerState, Update,
};
use crate::data::Sample;
use crate::scenario::UnusableUpdate;
use crate::store::{Digest, Key, Store, key_of};
use crate::training::{AlgorithmTerms, Job, Objective, PreferenceMetrics, Status, Step, Trainer, TrainingOutcome};

/// Context that all nodes of a run share on one device: the frozen base behind the trainer, the store and the rules.
pub struct Compute<'a> {
    trainer: &'a Trainer,
    unusable_update: UnusableUpdate,
    store: &'a Store,
    stop: &'a AtomicBool,
    engine: Digest,
}

impl<'a> Compute<'a> {
    /// Creates a [`Compute`] around a loaded base model. The store caches values that many nodes share and that are not
    /// results of nodes, such as the reference model's log-probabilities. `stop` interrupts long computations.
    pub fn new(trainer: &'a Trainer, unusable_update: UnusableUpdate, store: &'a Store, stop: &'a AtomicBool) -> Self {
        let engine = key_of("fedreplay engine v1", &(trainer.base_hash().as_bytes(), trainer.numerics_class())).0;
        Self { trainer, unusable_update, store, stop, engine }
    }

    /// Returns the digest of base model and numerics, as it enters keys.
    pub fn engine(&self) -> Digest {
        self.engine
    }

    /// Computes `node`; `inputs` are the values of [`Node::inputs`], in that order. The progress of trainings and
    /// benchmarks is reported to `work`.
    pub fn compute(&self, node: &Node, inputs: &[Value], work: &WorkCounters) -> Result<Value, GraphError> {
        match node {
            Node::Initial { layout, seed } => Ok(first_model(Arc::new(Adapter::initial(layout.clone(), *seed)))),
            Node::FirstStep(order) => self.first_step(order),
            Node::Given { adapter } => Ok(first_model(adapter.clone())),
            Node::Train { .. } => Ok(Value::Trained(self.train(&[(node, inputs)], work)?.remove(0))),
            Node::Cohort(members) => {
                // The inputs of a cohort are those of its members, one after another.
                let mut rest = inputs;
                let mut trainings = Vec::with_capacity(members.len());
                for member in members {
                    let (own, others) = rest.split_at(member.inputs().len());
                    rest = others;
                    trainings.push((member, own));
                }
                Ok(Value::Cohort(self.train(&trainings, work)?))
            }
            Node::Member { index, .. } => match &inputs[0] {
                Value::Cohort(members) => Ok(Value::Trained(members[*index].clone())),
                _ => unreachable!("a member's input is its cohort"),
            },
            Node::Control(change) => Ok(control(inputs, change)),
            Node::Moments { .. } => Ok(moments(inputs)),
            Node::Kept { factors, .. } => {
                let mut kept = Adapter::clone(inputs[0].adapter());
                factors.keep_only(&kept.layout, &mut kept.values);
                Ok(Value::Kept(Arc::new(kept)))
            }
            Node::Personal { factors, .. } => {
                Ok(first_model(Arc::new(factors.replaced(inputs[0].adapter(), inputs[1].adapter()))))
            }
            Node::Broadcast { compression, factors, .. } => {
                Ok(first_model(compress::broadcast(compression, *factors, inputs[0].adapter())))
            }
            Node::Truncated { rank, .. } => Ok(first_model(Arc::new(inputs[0].adapter().truncated(*rank)))),
            Node::Rank { rank } => Ok(Value::Rank(*rank)),
            Node::PrunedRank(order) => Ok(prune::rank_after(order.gamma, inputs)),
            Node::OfRank { .. } => Ok(first_model(Arc::new(inputs[0].adapter().truncated(prune::rank(&inputs[1]))))),
            Node::Pruned { .. } => Ok(prune::pruned(inputs)),
            Node::Attack(order) => Ok(attack::attack(order, inputs)),
            Node::Compress(order) => Ok(compress::compress(order, inputs)),
            Node::Memory { sent, rank, .. } => Ok(compress::memory(*sent, *rank, inputs)),
            Node::Aggregate { .. } => aggregate(node, inputs, self.stop),
            Node::Benchmark { benchmark, .. } => {
                let resources = EvalResources { trainer: self.trainer, store: self.store, stop: self.stop, work };
                Ok(Value::BenchmarkResult(Arc::new(benchmark.evaluate(&resources, inputs[0].adapter())?)))
            }
            Node::Evaluate { .. } => self.evaluate(&self.divide(node, inputs)?),
        }
    }

    /// Computes trainings in one pass. Each comes with the values of its inputs.
    ///
    /// # Errors
    /// If the training engine fails.
    pub fn train(&self, nodes: &[(&Node, &[Value])], work: &WorkCounters) -> Result<Vec<Arc<Trained>>, GraphError> {
        let jobs: Vec<Job> = nodes.iter().map(|(node, inputs)| job(node, inputs)).collect();
        for job in jobs.iter().filter(|job| job.objective != Objective::Sft) {
            self.prepare_references(job.objective.reference(), job.steps.iter().flatten().flatten())?;
        }
        let outcomes = self.trainer.train_counting(&jobs, work.trained_tokens())?;
        Ok(outcomes.into_iter().zip(&jobs).map(|(outcome, job)| Arc::new(trained(outcome, &job.adapter))).collect())
    }

    /// Computes the initial adapter from the gradients of the base.
    ///
    /// # Errors
    /// If the training engine fails, a gradient is not finite, or the run was asked to stop.
    fn first_step(&self, order: &FirstStep) -> Result<Value, GraphError> {
        let mut batches: Vec<Vec<Arc<Sample>>> = Vec::with_capacity(order.batches.len());
        for batch in &order.batches {
            batches.push(batch.iter().flat_map(|(rows, row)| rows.row(*row).iter().cloned()).collect());
        }
        let gradients = self.trainer.weight_gradients(&batches)?;
        match algorithm::adapter_of_first_step(&order.layout, &gradients, order.step_size, self.stop) {
            Some(adapter) if !adapter.is_finite() => Err(GraphError::FirstStep { step_size: order.step_size }),
            Some(adapter) => Ok(first_model(Arc::new(adapter))),
            None => Err(GraphError::Interrupted),
        }
    }

    /// Applies the scenario's rule for unusable updates, to computed values as well as to stored ones: the contents of the
    /// store must not decide how a run ends.
    pub fn accept(&self, node: &Node, value: Value) -> Result<Value, GraphError> {
        let client = match node {
            Node::Train { training, .. } => training.client,
            Node::Member { client, .. } => *client,
            _ => return Ok(value),
        };
        if let (Value::Trained(trained), UnusableUpdate::EndRun) = (&value, self.unusable_update)
            && let Some(reason) = &trained.record.unusable
        {
            let training = match client {
                Some(client) => format!("the training of client {client}"),
                None => "the training of the server".to_owned(),
            };
            return Err(GraphError::UnusableUpdate { order: training, reason: reason.clone() });
        }
        Ok(value)
    }

    /// Returns whether a stored value is one that the node can have. Keys of different nodes differ, so any other was put into
    /// the store by something else than a run.
    pub fn can_have(node: &Node, value: &Value) -> bool {
        match node {
            Node::Initial { .. }
            | Node::FirstStep(_)
            | Node::Given { .. }
            | Node::Personal { .. }
            | Node::Broadcast { .. }
            | Node::Truncated { .. } => {
                matches!(value, Value::Model { .. })
            }
            Node::Aggregate { .. } | Node::OfRank { .. } => matches!(value, Value::Model { .. }),
            Node::Train { .. } | Node::Member { .. } | Node::Attack(_) | Node::Compress(_) | Node::Pruned { .. } => {
                matches!(value, Value::Trained(_))
            }
            Node::Rank { .. } | Node::PrunedRank(_) => matches!(value, Value::Rank(_)),
            Node::Memory { .. } => matches!(value, Value::Memory(_)),
            Node::Cohort(nodes) => matches!(value, Value::Cohort(updates) if updates.len() == nodes.len()),
            Node::Control(_) => matches!(value, Value::Control(_)),
            Node::Moments { .. } => matches!(value, Value::Moments(_)),
            Node::Kept { .. } => matches!(value, Value::Kept(_)),
            Node::Evaluate { groups, .. } => matches!(value, Value::Evaluated(of) if of.groups.len() == groups.len()),
            Node::Benchmark { benchmark, .. } => {
                matches!(value, Value::BenchmarkResult(bytes) if benchmark.is_result(bytes))
            }
        }
    }

    /// Cuts an evaluation into parts; `inputs` as in [`Self::compute`].
    ///
    /// # Errors
    /// If a row does not fit the model.
    pub(super) fn divide(&self, node: &Node, inputs: &[Value]) -> Result<Evaluation, GraphError> {
        let Node::Evaluate { groups, objective, .. } = node else { unreachable!("only evaluations have parts") };
        Ok(Evaluation::new(self.trainer, inputs[0].adapter(), groups, *objective)?)
    }

    /// Computes the scores of one part of an evaluation.
    ///
    /// # Errors
    /// If the training engine or the store fails.
    pub(super) fn evaluate_part(&self, evaluation: &Evaluation, part: usize) -> Result<PartScores, GraphError> {
        let samples = evaluation.part(part);
        let mut references = Vec::new();
        if evaluation.objective != Objective::Sft {
            let reference = evaluation.objective.reference();
            self.prepare_references(reference, samples.iter())?;
            for sample in samples {
                references.push(self.trainer.reference(reference, sample)?);
            }
        }
        let losses = self.trainer.evaluate(&evaluation.adapter, samples)?;
        Ok(PartScores { losses, references })
    }

    /// Computes all parts of an evaluation, one after another.
    fn evaluate(&self, evaluation: &Evaluation) -> Result<Value, GraphError> {
        let mut parts = Vec::with_capacity(evaluation.part_count());
        for part in 0..evaluation.part_count() {
            parts.push(self.evaluate_part(evaluation, part)?);
        }
        Ok(evaluation.value(parts))
    }

    /// Ensures that the trainer knows the reference model's log-probabilities of these samples. They are read from the store,
    /// under the hash of the sample, or else computed and stored.
    fn prepare_references<'s>(
        &self,
        reference: Option<Digest>,
        samples: impl Iterator<Item = &'s Arc<Sample>>,
    ) -> Result<(), GraphError> {
        for sample in samples.filter(|sample| !self.trainer.knows_reference(reference, sample)) {
            let key = self.reference_key(reference, sample);
            let stored = self.store.get(key).and_then(|bytes| Some(f64::from_le_bytes(bytes.try_into().ok()?)));
            match stored {
                Some(log_probability) => self.trainer.set_reference(reference, sample, log_probability),
                None => self.store.put(key, &self.trainer.reference(reference, sample)?.to_le_bytes())?,
            }
        }
        Ok(())
    }

    /// Returns the key of a sample's log-probability under a reference adapter, or under the base alone.
    fn reference_key(&self, reference: Option<Digest>, sample: &Sample) -> Key {
        let sample = sample.hash();
        match reference {
            None => key_of("fedreplay reference log-probability v1", &(self.engine, sample.as_bytes())),
            Some(adapter) => {
                let parts = (self.engine, adapter, sample.as_bytes());
                key_of("fedreplay log-probability under a reference adapter v1", &parts)
            }
        }
    }
}

/// Returns a model that no aggregation has made: one before the first round, or a client's own.
fn first_model(adapter: Arc<Adapter>) -> Value {
    Value::Model { adapter, weights: vec![], state: ServerState::default(), clip_norm: None, error: None }
}

/// Builds the job of a training. `inputs` are the model that it starts from, then the client's control variate, its optimizer's
/// moments, the model that it is pulled toward, and its rank, as far as it has them.
fn job(node: &Node, inputs: &[Value]) -> Job {
    let Node::Train { control, moments, anchor, rank, training, .. } = node else {
        unreachable!("only trainings are trained")
    };
    let model = &inputs[0];
    let mut client_state = inputs[1..].iter();
    let control = control.and_then(|_| client_state.next());
    let moments = moments.and_then(|_| client_state.next()).map(|value| match value {
        Value::Moments(moments) => moments.clone(),
        _ => unreachable!("an optimiser goes on from moments"),
    });
    let anchor = anchor.and_then(|_| client_state.next()).map(|value| value.adapter().clone());
    let rank = rank.and_then(|_| client_state.next()).map(prune::rank);
    // SCAFFOLD: each step is corrected by the server's variate minus the client's.
    let correction = training.correction.and_then(|place| {
        algorithm::correction(model.server_control(), control.map(Value::adapter)).map(|by| (by, place))
    });
    let mut steps: Vec<Step> = Vec::with_capacity(training.steps.len());
    for step in &training.steps {
        let mut micro_batches = Step::with_capacity(step.len());
        for rows in step {
            micro_batches.push(rows.iter().flat_map(|&row| training.rows.row(row).iter().cloned()).collect());
        }
        steps.push(micro_batches);
    }
    Job {
        adapter: model.adapter().clone(),
        steps,
        hyper: training.hyper.clone(),
        objective: training.objective,
        terms: AlgorithmTerms { anchor, correction, moments, keeps_moments: training.keeps_moments, rank },
        seed: training.seed,
        stream: training.stream,
    }
}

/// Returns the update of a training from `base`. An unusable update leaves the adapter as it was.
fn trained(outcome: TrainingOutcome, base: &Arc<Adapter>) -> Trained {
    let unusable = match outcome.status {
        Status::Ok => None,
        Status::NonFinite { step } => Some(format!("a loss or gradient was not finite at step {}", step + 1)),
        Status::Unchanged => Some("the update changed nothing".to_owned()),
    };
    // Without preference training both means are 0/0 = NaN, and the ranking is dropped below.
    let preference = Ranking {
        margin: mean(&outcome.preferences, |step| step.chosen_reward - step.rejected_reward),
        accuracy: mean(&outcome.preferences, |step| step.accuracy),
    };
    let record = TrainedRecord {
        preference: Some(preference).filter(|mean| mean.margin.is_finite()),
        losses: outcome.losses.iter().map(|&loss| Some(loss).filter(|loss| loss.is_finite())).collect(),
        tokens: outcome.tokens,
        target_tokens: outcome.target_tokens,
        update_norm: if unusable.is_none() { outcome.update_norm } else { 0.0 },
        unusable,
    };
    let adapter = if record.unusable.is_none() { Arc::new(outcome.adapter) } else { base.clone() };
    Trained { adapter, record, moments: outcome.moments.map(Arc::new) }
}

/// Computes the mean of a quantity over steps; NaN without steps.
fn mean(steps: &[PreferenceMetrics], value: fn(&PreferenceMetrics) -> f64) -> f64 {
    steps.iter().map(value).sum::<f64>() / steps.len() as f64
}

/// Returns a client's moments after an update. `inputs` are the update, then the client's moments before it, if it has any.
/// An unusable update leaves them as they were.
fn moments(inputs: &[Value]) -> Value {
    let Value::Trained(trained) = &inputs[0] else { unreachable!("moments follow a training") };
    let after = trained.moments.clone().filter(|_| trained.record.unusable.is_none());
    match (after, inputs.get(1)) {
        (Some(after), _) => Value::Moments(after),
        (None, Some(before)) => before.clone(),
        (None, None) => Value::Moments(Arc::default()),
    }
}

/// Computes a client's control variate after an update. `inputs` are the update, the model that it started from, then the
/// client's variate before it, if it has one.
fn control(inputs: &[Value], change: &Control) -> Value {
    let Value::Trained(trained) = &inputs[0] else { unreachable!("a variate follows a training") };
    let base = &inputs[1];
    let before = inputs.get(2).map(Value::adapter);
    if trained.record.unusable.is_some() {
        // An unusable update says nothing about the client's gradients, so the variate stays as it was.
        return Value::Control(match before {
            Some(before) => before.clone(),
            None => Arc::new(Adapter::zeros(base.adapter().layout.clone())),
        });
    }
    let correction = algorithm::correction(base.server_control(), before);
    Value::Control(Arc::new(algorithm::next_client_control(
        base.adapter(),
        &trained.adapter,
        correction.as_deref(),
        change.steps,
        change.learning_rate,
    )))
}

/// Computes the next server model by an aggregate node. `inputs` are the server model, then update and base of each
/// contribution, then the server's own training if the node has one, then the variates of `controls`: for each client the one
/// after the round, then the one before it if there is one.
///
/// # Errors
/// If a rule of one's own has no result, or the run was asked to stop during it.
fn aggregate(node: &Node, inputs: &[Value], stop: &AtomicBool) -> Result<Value, GraphError> {
    let Node::Aggregate {
        contributions: parts,
        sent,
        release,
        robust,
        own_rule,
        root,
        rule,
        begins_anew,
        controls,
        ..
    } = node
    else {
        unreachable!("the node is an aggregate")
    };
    let (server, rest) = inputs.split_first().expect("an aggregate has a server model");
    let (pairs, rest) = rest.split_at(2 * parts.len());
    let (root, variates) = rest.split_at(usize::from(root.is_some()));
    // Factors that a client keeps are not there for the server, nor for distances and norms of a robust rule.
    let received: Vec<Arc<Adapter>> = pairs.chunks_exact(2).map(|pair| attack::received(*sent, pair)).collect();
    let mut updates = Vec::with_capacity(parts.len());
    for ((pair, adapter), contribution) in pairs.chunks_exact(2).zip(&received).zip(parts) {
        let usable = !matches!(&pair[0], Value::Trained(trained) if trained.record.unusable.is_some());
        let weight = match rule {
            _ if !usable || contribution.weight == 0.0 => 0.0,
            ServerRule::AverageByNorm => algorithm::product_norm(adapter),
            _ => contribution.weight,
        };
        let base = pair[1].adapter();
        updates.push(Update { adapter, base, weight, discount: contribution.discount });
    }
    let Value::Model { adapter: model, state, .. } = server else { unreachable!("an aggregate starts from a model") };
    if let Some(rule) = own_rule {
        let received = updates.into_iter().zip(parts);
        let received =
            received.map(|(update, part)| ReceivedUpdate { update, rank: part.rank, staleness: part.staleness });
        let updates: Vec<_> = received.collect();
        let before = state.own_rule.as_deref().map_or(&[][..], Vec::as_slice);
        let step = algorithm::own_step(&**rule, model, before, &updates, *sent, stop).map_err(|error| match error {
            RuleError::Interrupted => GraphError::Interrupted,
            error => GraphError::Rule(error),
        })?;
        let OwnStep { adapter, state, weights } = step;
        let own_rule = (!state.is_empty()).then(|| Arc::new(state));
        let state = ServerState { own_rule, ..ServerState::default() };
        return Ok(Value::Model { adapter: Arc::new(adapter), weights, state, clip_norm: None, error: None });
    }
    // The mean update is computed first, then applied by the server optimizer, then the server's variate follows.
    let (MeanUpdate { mut change, weights }, clip_norm) = match (release, robust) {
        (Some(release), _) => release.mean_update(model, server.clip_norm(), &updates),
        (None, Some(robust)) => {
            // Clients train the factors that they send, and so does the server. An unusable training has changed nothing.
            let root = root.first().map(Value::adapter);
            let root = root.map(|adapter| Update { adapter, base: model, weight: 1.0, discount: 1.0 });
            let context = RobustContext { center: state.center.as_deref(), root };
            (robust.aggregate(model.values.len(), context, &updates), None)
        }
        (None, None) => (algorithm::mean_update(model.values.len(), &updates), None),
    };
    // Noise is drawn for all values, and stays away from those that were not sent.
    if let Some(change) = &mut change {
        sent.keep_only(&model.layout, change);
    }
    // Neither a private release, which clips updates and adds noise, nor a robust rule is a mean.
    let is_mean = release.is_none() && robust.is_none();
    let has_error = is_mean && algorithm::have_mean_of_products(model, &updates, &weights);
    let mut error = None;
    // The rule Products averages the products B A and not the two factors: the change leads to the nearest adapter of this
    // rank.
    if let (ServerRule::Products, Some(change)) = (rule, &mut change) {
        let (nearest, lost) = algorithm::products_change(model, &updates, &weights);
        *change = nearest;
        error = has_error.then_some(lost);
    } else if let (ServerRule::AverageCorrected { regularization }, Some(change)) = (rule, &mut change) {
        let correction = algorithm::correction_of_b(model, &updates, &weights, *regularization);
        change.iter_mut().zip(&correction).for_each(|(change, correction)| *change += correction);
        error = has_error.then(|| algorithm::error_of_corrected(&model.layout, &updates, &weights, Some(&correction)));
    } else if has_error && !rule.adds_to_base() {
        error = Some(algorithm::error_of_factors(&model.layout, &updates, &weights));
    }
    let before = if *begins_anew { state.without_moments() } else { state.clone() };
    let (next, mut state) = rule.apply(model, &before, change.as_deref());
    let (adapter, error_of_rest) = rule.with_base_change(model, next, &updates, &weights);
    // What is added to the base is part of what the mean of products has become.
    let error = error_of_rest.filter(|_| has_error).or(error);
    // Without products there is nothing to compare, as where clients keep all B.
    let error = error.map(|error| error.of_sent(&model.layout, *sent)).filter(|error| error.total().is_some());
    state.center = robust.and_then(|robust| robust.next_center(model, before.center.as_ref(), change.as_deref()));
    if let Some(controls) = controls {
        let mut variates = variates.iter().map(|value| &**value.adapter());
        let mut changes = Vec::with_capacity(controls.changes.len());
        for (_, before) in &controls.changes {
            let after = variates.next().expect("each change has a variate after it");
            let before = before.map(|_| variates.next().expect("and one before"));
            changes.push(ControlChange { before, after });
        }
        state = algorithm::next_server_control(state, model, &changes, controls.clients);
    }
    Ok(Value::Model { adapter: Arc::new(adapter), weights, state, clip_norm, error })
}
