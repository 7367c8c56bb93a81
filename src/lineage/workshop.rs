//! Computes one order from the values of its inputs.

use std::sync::Arc;

use super::order::{Contribution, Control, Controls, Order, Training};
use super::release::Release;
use super::value::{Evaluated, RowsLoss, Trained, TrainedRecord, Value};
use super::{OrderError, Rows};
use crate::adapter::Adapter;
use crate::algorithm::{self, ControlChange, MeanUpdate, ServerRule, ServerState, Update};
use crate::scenario::UnusableUpdate;
use crate::store::{Digest, key_of};
use crate::training::{Job, Objective, Outcome, Status, Step, Terms, Trainer};

/// What every order of a run shares: the frozen base behind the trainer, and the rules.
pub struct Workshop<'a> {
    trainer: &'a Trainer,
    unusable_update: UnusableUpdate,
    engine: Digest,
}

impl<'a> Workshop<'a> {
    /// A workshop around a loaded base model.
    pub fn new(trainer: &'a Trainer, unusable_update: UnusableUpdate) -> Self {
        let engine = key_of("fedreplay engine v1", &(trainer.base_hash().as_bytes(), trainer.numerics_class())).0;
        Self { trainer, unusable_update, engine }
    }

    /// What stands for base model and numerics in keys.
    pub fn engine(&self) -> Digest {
        self.engine
    }

    /// Computes `order`; `inputs` are the values of [`Order::inputs`], in that order.
    pub fn compute(&self, order: &Order, inputs: &[Value]) -> Result<Value, OrderError> {
        match order {
            Order::Initial { layout, seed } => {
                let adapter = Arc::new(Adapter::initial(layout.clone(), *seed));
                Ok(Value::Model { adapter, weights: vec![], state: ServerState::default(), clip_norm: None })
            }
            Order::Given { adapter } => {
                let adapter = adapter.clone();
                Ok(Value::Model { adapter, weights: vec![], state: ServerState::default(), clip_norm: None })
            }
            Order::Train { training, .. } => self.train(&inputs[0], inputs.get(1), training),
            Order::Control(order) => Ok(control(inputs, order)),
            Order::Aggregate { contributions, rule, controls, release, .. } => {
                Ok(aggregate(inputs, contributions, rule, controls.as_ref(), release.as_deref()))
            }
            Order::Evaluate { groups, .. } => self.evaluate(inputs[0].adapter(), groups),
        }
    }

    /// `control` is the client's variate, if it has one.
    fn train(&self, model: &Value, control: Option<&Value>, training: &Training) -> Result<Value, OrderError> {
        let base = model.adapter();
        let correction = training.correction.and_then(|place| {
            algorithm::correction(model.server_control(), control.map(Value::adapter)).map(|by| (by, place))
        });
        let samples = |rows: &Vec<usize>| rows.iter().map(|&row| training.rows.samples[row].clone()).collect();
        let step = |step: &Vec<Vec<usize>>| -> Step { step.iter().map(samples).collect() };
        let steps: Vec<Step> = training.steps.iter().map(step).collect();
        let job = Job {
            adapter: base.clone(),
            steps,
            hyper: training.hyper.clone(),
            objective: Objective::Sft,
            terms: Terms { correction, ..Terms::default() },
            seed: training.seed,
            stream: training.stream,
        };
        let outcome = self.trainer.train(std::slice::from_ref(&job))?.pop().expect("one job gives one outcome");
        Ok(Value::Trained(Arc::new(trained(outcome, base))))
    }

    /// Applies the scenario's rule for unusable updates, to a value that was computed as to one that was stored: what is
    /// in the store must not decide how a run ends.
    pub fn accept(&self, order: &Order, value: Value) -> Result<Value, OrderError> {
        if let (Order::Train { training, .. }, Value::Trained(trained), UnusableUpdate::EndRun) =
            (order, &value, self.unusable_update)
            && let Some(reason) = &trained.record.unusable
        {
            let order = format!("the training of client {}", training.client);
            return Err(OrderError::UnusableUpdate { order, reason: reason.clone() });
        }
        Ok(value)
    }

    fn evaluate(&self, adapter: &Adapter, groups: &[Arc<Rows>]) -> Result<Value, OrderError> {
        let samples: Vec<_> = groups.iter().flat_map(|rows| rows.samples.iter().cloned()).collect();
        let losses = self.trainer.evaluate(adapter, &samples)?;
        let mut rest = losses.as_slice();
        let mut evaluated = Vec::with_capacity(groups.len());
        for rows in groups {
            let (mine, others) = rest.split_at(rows.samples.len());
            rest = others;
            let nats: f64 = mine.iter().map(|row| row.nats).sum();
            let target_tokens: u64 = mine.iter().map(|row| u64::from(row.tokens)).sum();
            let loss = Some(nats / target_tokens as f64).filter(|loss| loss.is_finite());
            evaluated.push(RowsLoss { rows: mine.len() as u64, target_tokens, loss });
        }
        Ok(Value::Evaluated(Arc::new(Evaluated { groups: evaluated })))
    }
}

fn trained(outcome: Outcome, base: &Arc<Adapter>) -> Trained {
    let unusable = match outcome.status {
        Status::Ok => None,
        Status::NonFinite { step } => Some(format!("a loss or gradient was not finite at step {}", step + 1)),
        Status::Unchanged => Some("the update changed nothing".to_owned()),
    };
    let record = TrainedRecord {
        losses: outcome.losses.iter().map(|&loss| Some(loss).filter(|loss| loss.is_finite())).collect(),
        tokens: outcome.tokens,
        target_tokens: outcome.target_tokens,
        update_norm: if unusable.is_none() { outcome.update_norm } else { 0.0 },
        unusable,
    };
    let adapter = if record.unusable.is_none() { Arc::new(outcome.adapter) } else { base.clone() };
    Trained { adapter, record }
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
    rule: &ServerRule,
    controls: Option<&Controls>,
    release: Option<&Release>,
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
    let Value::Model { adapter: model, state, clip_norm, .. } = server else {
        unreachable!("an aggregate starts from a model")
    };
    let (MeanUpdate { change, weights }, clip_norm) = match release {
        Some(release) => release.mean_update(model, *clip_norm, &updates),
        None => (algorithm::mean_update(model.values.len(), &updates), None),
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
