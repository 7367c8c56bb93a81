//! Turns what was scheduled and computed into rows of the ledger.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fedreplay_sim::{EventRecord, RoundRecord, RoundStatus, Tally, TaskId, TaskRecord, Time};

use super::planned_round::{Evaluations, LocalBaseline, PlannedRound};
use super::scheduled_benchmarks;
use crate::adapter::Adapter;
use crate::graph::{Executor, OrderError, Recorded, RowsLoss, Trained, Value};
use crate::inputs::Inputs;
use crate::ledger::{Chunk, EvaluationRow, EventRow, LOSSES, LineageRow, PopulationRow, RoundRow, TaskRow};
use crate::schedule::client_facts::{ClientFacts, Clients, name_of};
use crate::schedule::{DeviceClass, LinkClass, Place, ScheduledRound};

/// One row a client.
pub fn population(clients: &Clients) -> impl Iterator<Item = PopulationRow> {
    let placement = &clients.placement;
    let row = move |(index, (client, place)): (usize, (&ClientFacts, &Place))| {
        let DeviceClass { name: device_name, device, .. } = &placement.devices[place.device as usize];
        let LinkClass { name: link_name, link } = &placement.links[place.link as usize];
        let work = &clients.costs.works()[client.work as usize];
        PopulationRow {
            client: index as u32,
            client_id: name_of(client.id.as_deref(), index),
            train_rows: client.train_rows.into(),
            held_out_rows: client.held_out_rows.into(),
            train_tokens: client.train_tokens,
            device: device_name.clone(),
            flops_per_second: device.speed.0,
            memory_bytes: device.memory.map(|memory| memory.0),
            link: link_name.clone(),
            downlink_bits_per_second: link.down.0,
            uplink_bits_per_second: link.up.0,
            latency_ns: link.latency.0,
            region: place.region.map(|region| placement.regions[region as usize].clone()),
            task_flops: work.flops,
            task_memory_bytes: work.peak_memory_bytes,
        }
    };
    clients.facts.iter().zip(&placement.places).enumerate().map(row)
}

/// A finished round as a chunk of the ledger, and the aggregator's model after it.
pub struct RoundRows {
    pub chunk: Chunk,
    pub model: Arc<Adapter>,
}

/// Collects the results of a round, waiting for those that are not there yet.
pub fn round(
    scheduled: &ScheduledRound,
    planned: &PlannedRound,
    inputs: &Inputs,
    executor: &Executor,
) -> Result<RoundRows, OrderError> {
    let updates = planned.updates.iter().map(|&order| executor.take(order)).collect::<Result<Vec<_>, _>>()?;
    let model = executor.take(planned.model)?;
    let weights = if planned.is_new { model.weights().to_vec() } else { vec![] };
    let counted = scheduled.round.counted_tasks.iter().zip(updates.iter().zip(&planned.updates)).zip(&weights);
    let results: BTreeMap<TaskId, Counted> = counted
        .map(|((counted, (value, order)), &weight)| {
            (counted.task, Counted { value, weight, key: executor.key(*order).to_string() })
        })
        .collect();
    let base = executor.take(planned.base)?.adapter().clone();
    let mut rows = Vec::new();
    if let Some(evaluations) = &planned.evaluations {
        rows = self::evaluations(scheduled.number, planned.version, evaluations, inputs, executor)?;
    }
    let tasks = scheduled.tasks.iter().map(|task| trained_task(task, results.get(&task.task))).collect();
    let round = RoundRow {
        train_loss: train_loss(&results, planned.counts_alike),
        update_norm: Some(model.adapter().difference(&base).norm()),
        epsilon_spent: planned.epsilon_spent,
        model_key: Some(executor.key(planned.model).to_string()),
        model_hash: Some(model.adapter_hash().to_string()),
        ..timed_round(&scheduled.round, scheduled.number)
    };
    let events = scheduled.events.iter().map(event).collect();
    let (figures, generations) =
        scheduled_benchmarks::rows(&planned.exams, executor, scheduled.number, planned.version)?;
    rows.extend(figures);
    let chunk = Chunk { events, tasks, evaluations: rows, generations, lineage: vec![], round };
    Ok(RoundRows { chunk, model: model.adapter().clone() })
}

/// The orders with these numbers, as rows of a round.
pub fn lineage(round: u32, orders: Range<usize>, executor: &Executor) -> Vec<LineageRow> {
    executor.recorded(orders).into_iter().map(|order| lineage_row(round, order)).collect()
}

fn lineage_row(round: u32, order: Recorded) -> LineageRow {
    let inputs: Vec<String> = order.inputs.iter().map(|input| input.index().to_string()).collect();
    LineageRow {
        order: order.order.index() as u64,
        round,
        kind: order.kind,
        inputs: (!inputs.is_empty()).then(|| inputs.join(" ")),
        code: order.recipe.code,
        engine: order.recipe.engine.map(|engine| engine.to_string()),
        parameters: order.recipe.parameters,
        key: order.key.to_string(),
        result: order.result.map(|result| result.to_string()),
    }
}

struct Counted<'a> {
    value: &'a Value,
    weight: f64,
    key: String,
}

impl Counted<'_> {
    fn trained(&self) -> &Trained {
        match self.value {
            Value::Trained(trained) => trained,
            _ => unreachable!("a training order gives an update"),
        }
    }
}

/// An event of virtual time.
pub fn event(event: &EventRecord) -> EventRow {
    EventRow {
        at_ns: event.at.0,
        kind: event.kind.name(),
        round: event.round.map(|round| round + 1),
        client: event.client,
        task: event.task.map(|task| task.0),
        bytes: event.bytes,
    }
}

/// A task with what virtual time knows of it.
pub fn timed_task(task: &TaskRecord) -> TaskRow {
    let ns = |time: Option<Time>| time.map(|time| time.0);
    TaskRow {
        task: task.task.0,
        client: task.client,
        client_task: u64::from(task.client_task_number),
        aggregator: task.aggregator,
        round: task.round + 1,
        based_on_version: task.based_on_version,
        dispatched_at_ns: task.dispatched_at.0,
        download_done_at_ns: ns(task.download_done_at),
        training_done_at_ns: ns(task.training_done_at),
        upload_done_at_ns: ns(task.upload_done_at),
        ended_at_ns: task.ended_at.0,
        outcome: task.outcome.name(),
        fate: fate(task.outcome.tally()),
        counted_in_version: task.counted_in_version,
        staleness: task.counted_in_version.map(|_| task.staleness),
        bytes_down: task.bytes_down,
        bytes_up: task.bytes_up,
        compute_flops: task.compute_flops,
        training_ns: task.training_ns,
        energy_mj: task.energy_mj,
        ..TaskRow::default()
    }
}

/// A task with what its training gave, if it counted.
fn trained_task(task: &TaskRecord, counted: Option<&Counted>) -> TaskRow {
    let row = timed_task(task);
    let Some(counted) = counted else { return row };
    let record = &counted.trained().record;
    TaskRow {
        reason: record.unusable.clone(),
        steps: Some(record.losses.len() as u32),
        tokens: Some(record.tokens),
        target_tokens: Some(record.target_tokens),
        loss_first: record.losses.first().copied().flatten(),
        loss_last: record.losses.last().copied().flatten(),
        loss_mean: record.mean_loss(),
        reward_margin: record.preference.map(|mean| mean.margin),
        preference_accuracy: record.preference.map(|mean| mean.accuracy),
        update_norm: Some(record.update_norm),
        weight: Some(counted.weight),
        update_key: Some(counted.key.clone()),
        update_hash: Some(counted.value.adapter_hash().to_string()),
        ..row
    }
}

fn fate(tally: Tally) -> &'static str {
    match tally {
        Tally::Counted => "counted",
        Tally::Late => "late",
        Tally::Dropped => "dropped",
        Tally::Cancelled => "cancelled",
    }
}

/// The mean of the counted tasks' losses by their share in the aggregate, or all alike where nothing is aggregated; none
/// if one of them was not finite.
fn train_loss(results: &BTreeMap<TaskId, Counted>, all_alike: bool) -> Option<f64> {
    let share = |counted: &Counted| if all_alike { 1.0 } else { counted.weight };
    let used = || results.values().filter(|counted| share(counted) > 0.0);
    let total: f64 = used().map(share).sum();
    let weighted = |counted: &Counted| counted.trained().record.mean_loss().map(|loss| loss * share(counted));
    let sum: Option<f64> = used().map(weighted).sum();
    sum.filter(|_| total > 0.0).map(|sum| sum / total)
}

/// A round with what virtual time knows of it.
pub fn timed_round(round: &RoundRecord, number: u32) -> RoundRow {
    let (status, reason) = match round.status {
        RoundStatus::Closed => ("closed", None),
        RoundStatus::Failed(failure) => ("failed", Some(failure.name().to_owned())),
    };
    let merged: Vec<String> = round.merged_versions.iter().map(u32::to_string).collect();
    RoundRow {
        round: number,
        aggregator: round.aggregator,
        aggregator_round: round.round + 1,
        version: round.version.unwrap_or(round.base_version),
        base_version: round.base_version,
        merged_versions: (!merged.is_empty()).then(|| merged.join(" ")),
        opened_at_ns: round.opened_at.0,
        closed_at_ns: round.closed_at.0,
        status,
        reason,
        dispatched: round.dispatched,
        counted: round.counted,
        late: round.late,
        dropped: round.dropped,
        cancelled: round.cancelled,
        in_flight: round.in_flight,
        bytes_down: round.bytes_down,
        bytes_up: round.bytes_up,
        ..RoundRow::default()
    }
}

/// Whose losses a row holds.
#[derive(Clone, Copy)]
pub struct EvaluatedModel<'a> {
    pub round: u32,
    pub version: u32,
    pub subject: &'a str,
    pub client: Option<u32>,
    /// Hash of its adapter.
    pub hash: &'a str,
}

/// The losses of one model on one split.
pub fn loss_row(model: EvaluatedModel, split: &str, loss: &RowsLoss) -> EvaluationRow {
    let is_likelihood = loss.preference.is_none();
    EvaluationRow {
        round: model.round,
        version: model.version,
        subject: model.subject.into(),
        client: model.client,
        benchmark: LOSSES.into(),
        split: split.into(),
        rows: loss.rows,
        failed: 0,
        score: None,
        target_tokens: loss.target_tokens,
        loss: loss.loss,
        perplexity: loss.loss.filter(|_| is_likelihood).map(libm::exp),
        token_accuracy: loss.token_accuracy,
        reward_margin: loss.preference.map(|mean| mean.margin),
        preference_accuracy: loss.preference.map(|mean| mean.accuracy),
        model_hash: Some(model.hash.into()),
    }
}

/// The losses of one server model: on the test rows, then on each client's held-out rows.
pub fn evaluations(
    round: u32,
    version: u32,
    evaluations: &Evaluations,
    inputs: &Inputs,
    executor: &Executor,
) -> Result<Vec<EvaluationRow>, OrderError> {
    let hash = executor.take(evaluations.model)?.adapter_hash().to_string();
    let row = |client, split: &str, loss: &RowsLoss| {
        loss_row(EvaluatedModel { round, version, subject: "global", client, hash: &hash }, split, loss)
    };
    let mut rows = Vec::with_capacity(1 + inputs.clients.len());
    if let Some(test) = evaluations.test {
        rows.extend(losses(executor, test)?.iter().map(|loss| row(None, "test", loss)));
    }
    for (client, loss) in losses(executor, evaluations.held_out)?.iter().enumerate().filter(|(_, loss)| loss.rows > 0) {
        rows.push(row(Some(client as u32), "held_out", loss));
    }
    Ok(rows)
}

/// The losses of one client trained alone, and its adapter.
pub fn local_baseline(
    round: u32,
    local: &LocalBaseline,
    has_test: bool,
    executor: &Executor,
) -> Result<(Vec<EvaluationRow>, Arc<Adapter>), OrderError> {
    let model = executor.take(local.model)?;
    let hash = model.adapter_hash().to_string();
    let splits = if has_test { &["test", "held_out"][..] } else { &["held_out"] };
    let losses = losses(executor, local.evaluation)?;
    let own = EvaluatedModel { round, version: 0, subject: "local", client: Some(local.client), hash: &hash };
    let row = |(split, loss): (&&str, &RowsLoss)| loss_row(own, split, loss);
    let rows = splits.iter().zip(&losses).filter(|(_, loss)| loss.rows > 0).map(row).collect();
    Ok((rows, model.adapter().clone()))
}

fn losses(executor: &Executor, order: crate::graph::OrderId) -> Result<Vec<RowsLoss>, OrderError> {
    match executor.take(order)? {
        Value::Evaluated(evaluated) => Ok(evaluated.groups.clone()),
        _ => unreachable!("an evaluation gives losses"),
    }
}
