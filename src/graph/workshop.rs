//! Computes one order from the values of its inputs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::OrderError;
use super::evaluation::{Evaluation, PartScores};
use super::exam::Desk;
use super::order::{Contribution, Control, Controls, Order};
use super::value::{Ranking, Trained, TrainedRecord, Value};
use super::work::WorkCounters;
use crate::adapter::Adapter;
use crate::algorithm;
use crate::algorithm::{ControlChange, MeanUpdate, ServerRule, ServerState, Update};
use crate::data::Sample;
use crate::privacy::Release;
use crate::scenario::UnusableUpdate;
use crate::store::{Digest, Store, key_of};
use crate::training::{Job, Objective, Outcome, Preference, Status, Step, Terms, Trainer};

/// What every order of a run shares: the frozen base behind the trainer, and the rules.
pub struct Workshop<'a> {
    trainer: &'a Trainer,
    unusable_update: UnusableUpdate,
    store: &'a Store,
    stop: &'a AtomicBool,
    engine: Digest,
}

impl<'a> Workshop<'a> {
    /// A workshop around a loaded base model. The store keeps what many orders need and none depends on, such as the
    /// reference's log-probabilities. `stop` ends what takes long.
    pub fn new(trainer: &'a Trainer, unusable_update: UnusableUpdate, store: &'a Store, stop: &'a AtomicBool) -> Self {
        let engine = key_of("fedreplay engine v1", &(trainer.base_hash().as_bytes(), trainer.numerics_class())).0;
        Self { trainer, unusable_update, store, stop, engine }
    }

    /// What stands for base model and numerics in keys.
    pub fn engine(&self) -> Digest {
        self.engine
    }

    /// Computes `order`; `inputs` are the values of [`Order::inputs`], in that order. `work` is told how far trainings and
    /// benchmarks are.
    pub fn compute(&self, order: &Order, inputs: &[Value], work: &WorkCounters) -> Result<Value, OrderError> {
        match order {
            Order::Initial { layout, seed } => {
                let adapter = Arc::new(Adapter::initial(layout.clone(), *seed));
                Ok(Value::Model { adapter, weights: vec![], state: ServerState::default(), clip_norm: None })
            }
            Order::Given { adapter } => Ok(Value::Model {
                adapter: adapter.clone(),
                weights: vec![],
                state: ServerState::default(),
                clip_norm: None,
            }),
            Order::Train { .. } => Ok(Value::Trained(self.train(&[(order, inputs)], work)?.remove(0))),
            Order::Cohort(members) => {
                let mut rest = inputs;
                let split = |member| {
                    let (own, others) = rest.split_at(Order::inputs(member).len());
                    rest = others;
                    (member, own)
                };
                Ok(Value::Cohort(self.train(&members.iter().map(split).collect::<Vec<_>>(), work)?))
            }
            Order::Member { index, .. } => match &inputs[0] {
                Value::Cohort(members) => Ok(Value::Trained(members[*index].clone())),
                _ => unreachable!("a member's input is its cohort"),
            },
            Order::Control(order) => Ok(control(inputs, order)),
            Order::Moments { .. } => Ok(moments(inputs)),
            Order::Aggregate { contributions, release, rule, controls, .. } => {
                Ok(aggregate(inputs, contributions, release.as_deref(), rule, controls.as_ref()))
            }
            Order::Examine { exam, .. } => {
                let desk = Desk { trainer: self.trainer, store: self.store, stop: self.stop, work };
                Ok(Value::Examined(Arc::new(exam.take(&desk, inputs[0].adapter())?)))
            }
            Order::Evaluate { .. } => self.evaluate(&self.divide(order, inputs)?),
        }
    }

    /// Trains in one pass. Each order comes with the values of its inputs.
    ///
    /// # Errors
    /// If the training engine fails.
    pub fn train(&self, orders: &[(&Order, &[Value])], work: &WorkCounters) -> Result<Vec<Arc<Trained>>, OrderError> {
        let jobs: Vec<Job> = orders.iter().map(|(order, inputs)| job(order, inputs)).collect();
        for job in jobs.iter().filter(|job| job.objective != Objective::Sft) {
            self.prepare_references(job.steps.iter().flatten().flatten())?;
        }
        let outcomes = self.trainer.train_counting(&jobs, work.trained_tokens())?;
        Ok(outcomes.into_iter().zip(&jobs).map(|(outcome, job)| Arc::new(trained(outcome, &job.adapter))).collect())
    }

    /// Applies the scenario's rule for unusable updates, to a value that was computed as to one that was stored: what is
    /// in the store must not decide how a run ends.
    pub fn accept(&self, order: &Order, value: Value) -> Result<Value, OrderError> {
        let client = match order {
            Order::Train { training, .. } => training.client,
            Order::Member { client, .. } => *client,
            _ => return Ok(value),
        };
        if let (Value::Trained(trained), UnusableUpdate::EndRun) = (&value, self.unusable_update)
            && let Some(reason) = &trained.record.unusable
        {
            let order = format!("the training of client {client}");
            return Err(OrderError::UnusableUpdate { order, reason: reason.clone() });
        }
        Ok(value)
    }

    /// Cuts an evaluation order into parts; `inputs` as in [`Self::compute`].
    ///
    /// # Errors
    /// If a row does not fit the model.
    pub(super) fn divide(&self, order: &Order, inputs: &[Value]) -> Result<Evaluation, OrderError> {
        let Order::Evaluate { groups, objective, .. } = order else { unreachable!("only evaluations have parts") };
        Ok(Evaluation::new(self.trainer, inputs[0].adapter(), groups, *objective)?)
    }

    /// Computes the scores of one part of an evaluation.
    ///
    /// # Errors
    /// If the training engine or the store fails.
    pub(super) fn evaluate_part(&self, evaluation: &Evaluation, part: usize) -> Result<PartScores, OrderError> {
        let samples = evaluation.part(part);
        let mut references = Vec::new();
        if evaluation.objective != Objective::Sft {
            self.prepare_references(samples.iter())?;
            for sample in samples {
                references.push(self.trainer.reference(sample)?);
            }
        }
        let losses = self.trainer.evaluate(&evaluation.adapter, samples)?;
        Ok(PartScores { losses, references })
    }

    /// Computes all parts of an evaluation, one after another.
    fn evaluate(&self, evaluation: &Evaluation) -> Result<Value, OrderError> {
        let mut parts = Vec::with_capacity(evaluation.part_count());
        for part in 0..evaluation.part_count() {
            parts.push(self.evaluate_part(evaluation, part)?);
        }
        Ok(evaluation.value(parts))
    }

    /// Sees that the trainer has the reference's log-probabilities of these samples: from the store, under the hash of the
    /// sample, or computed now and kept there.
    fn prepare_references<'s>(&self, samples: impl Iterator<Item = &'s Arc<Sample>>) -> Result<(), OrderError> {
        for sample in samples.filter(|sample| !self.trainer.knows_reference(sample)) {
            let key = key_of("fedreplay reference log-probability v1", &(self.engine, sample.hash().as_bytes()));
            let stored = self.store.get(key).and_then(|bytes| Some(f64::from_le_bytes(bytes.try_into().ok()?)));
            match stored {
                Some(log_probability) => self.trainer.set_reference(sample, log_probability),
                None => self.store.put(key, &self.trainer.reference(sample)?.to_le_bytes())?,
            }
        }
        Ok(())
    }
}

/// The job of a training order; `inputs` are the model that it starts from, and what the client kept: its variate and its
/// optimiser's moments, if it has them.
fn job(order: &Order, inputs: &[Value]) -> Job {
    let Order::Train { control, moments, training, .. } = order else { unreachable!("only trainings are trained") };
    let (model, mut kept) = (&inputs[0], inputs[1..].iter());
    let control = control.and_then(|_| kept.next());
    let moments = moments.and_then(|_| kept.next()).map(|value| match value {
        Value::Moments(moments) => moments.clone(),
        _ => unreachable!("an optimiser goes on from moments"),
    });
    let correction = training.correction.and_then(|place| {
        algorithm::correction(model.server_control(), control.map(Value::adapter)).map(|by| (by, place))
    });
    let rows = |rows: &Vec<usize>| rows.iter().flat_map(|&row| training.rows.row(row).iter().cloned()).collect();
    let step = |step: &Vec<Vec<usize>>| -> Step { step.iter().map(rows).collect() };
    Job {
        adapter: model.adapter().clone(),
        steps: training.steps.iter().map(step).collect(),
        hyper: training.hyper.clone(),
        objective: training.objective,
        terms: Terms { anchor: None, correction, moments, keeps_moments: training.keeps_moments },
        seed: training.seed,
        stream: training.stream,
    }
}

fn trained(outcome: Outcome, base: &Arc<Adapter>) -> Trained {
    let unusable = match outcome.status {
        Status::Ok => None,
        Status::NonFinite { step } => Some(format!("a loss or gradient was not finite at step {}", step + 1)),
        Status::Unchanged => Some("the update changed nothing".to_owned()),
    };
    let pairs = &outcome.preferences;
    let mean = |value: fn(&Preference) -> f64| pairs.iter().map(value).sum::<f64>() / pairs.len() as f64;
    let preference = Ranking {
        margin: mean(|step| step.chosen_reward - step.rejected_reward),
        accuracy: mean(|step| step.accuracy),
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

/// `inputs` are the update, and the client's moments before it if it has some. A training that went wrong leaves those.
fn moments(inputs: &[Value]) -> Value {
    let Value::Trained(trained) = &inputs[0] else { unreachable!("moments follow a training") };
    let after = trained.moments.clone().filter(|_| trained.record.unusable.is_none());
    match (after, inputs.get(1)) {
        (Some(after), _) => Value::Moments(after),
        (None, Some(before)) => before.clone(),
        (None, None) => Value::Moments(Arc::default()),
    }
}

/// `inputs` are the update, the model that it started from, and the client's variate before if it has one.
fn control(inputs: &[Value], order: &Control) -> Value {
    let (update, base, before) = (&inputs[0], &inputs[1], inputs.get(2).map(Value::adapter));
    let Value::Trained(trained) = update else { unreachable!("a variate follows a training") };
    if trained.record.unusable.is_some() {
        // What went wrong says nothing of the client's gradients.
        let zeros = || Arc::new(Adapter::zeros(base.adapter().layout.clone()));
        return Value::Control(before.cloned().unwrap_or_else(zeros));
    }
    let correction = algorithm::correction(base.server_control(), before);
    Value::Control(Arc::new(algorithm::next_client_control(
        base.adapter(),
        &trained.adapter,
        correction.as_deref(),
        order.steps,
        order.learning_rate,
    )))
}

/// `inputs` are the server model, then update and base of each contribution, then the variates of `controls`.
fn aggregate(
    inputs: &[Value],
    parts: &[Contribution],
    release: Option<&Release>,
    rule: &ServerRule,
    controls: Option<&Controls>,
) -> Value {
    let (server, rest) = inputs.split_first().expect("an aggregate has a server model");
    let (pairs, variates) = rest.split_at(2 * parts.len());
    let updates: Vec<Update> = pairs
        .chunks_exact(2)
        .zip(parts)
        .map(|(pair, contribution)| {
            let usable = !matches!(&pair[0], Value::Trained(trained) if trained.record.unusable.is_some());
            let weight = if usable { contribution.weight } else { 0.0 };
            let (adapter, base) = (pair[0].adapter(), pair[1].adapter());
            Update { adapter, base, weight, discount: contribution.discount }
        })
        .collect();
    let Value::Model { adapter: model, state, .. } = server else { unreachable!("an aggregate starts from a model") };
    let (MeanUpdate { change, weights }, clip_norm) = match release {
        Some(release) => release.mean_update(model, server.clip_norm(), &updates),
        None => (algorithm::mean_update(model.values.len(), &updates), None),
    };
    let change = match rule {
        ServerRule::Products => change.map(|_| algorithm::products_change(model, &updates, &weights)),
        _ => change,
    };
    let (adapter, mut state) = rule.apply(model, state, change.as_deref());
    if let Some(controls) = controls {
        let mut variates = variates.iter().map(|value| &**value.adapter());
        let changes: Vec<ControlChange> = controls
            .changes
            .iter()
            .map(|(_, before)| {
                let after = variates.next().expect("each change has a variate after it");
                ControlChange { before: before.map(|_| variates.next().expect("and one before")), after }
            })
            .collect();
        state = algorithm::next_server_control(state, model, &changes, controls.clients);
    }
    Value::Model { adapter: Arc::new(adapter), weights, state, clip_norm }
}
