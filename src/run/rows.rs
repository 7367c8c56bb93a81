//! Turns what was scheduled and computed into rows of the ledger.

use fedreplay_sim::{EventRecord, RoundStatus, Tally, TaskId, TaskRecord, Time};

use super::inputs::Inputs;
use super::plan::{Evaluations, LocalBaseline, PlannedRound};
use super::schedule::ScheduledRound;
use crate::ledger::{Chunk, EvaluationRow, EventRow, PopulationRow, RoundRow, TaskRow};
use crate::lineage::{Executor, OrderError, RowsLoss, Trained, Value};
use crate::scenario::{ClientFacts, Clients, Scenario};

/// One row a client.
pub fn population(scenario: &Scenario, clients: &Clients) -> Vec<PopulationRow> {
    let row = |(index, client): (usize, &ClientFacts)| {
        let group = &scenario.population.mix[client.group as usize];
        let device = &scenario.population.devices[&group.device];
        let link = &scenario.population.links[&group.link];
        let work = &clients.costs.works()[client.work as usize];
        PopulationRow {
            client: index as u32,
            client_id: client.id.as_deref().map_or_else(|| format!("client-{index}"), str::to_owned),
            train_rows: client.train_rows.into(),
            held_out_rows: client.held_out_rows.into(),
            train_tokens: client.train_tokens,
            device: group.device.clone(),
            flops_per_second: device.speed.0,
            memory_bytes: device.memory.map(|memory| memory.0),
            link: group.link.clone(),
            downlink_bits_per_second: link.down.0,
            uplink_bits_per_second: link.up.0,
            latency_ns: link.latency.0,
            region: group.region.clone(),
            task_flops: work.flops,
            task_memory_bytes: work.peak_memory_bytes,
        }
    };
    clients.facts.iter().enumerate().map(row).collect()
}

/// A finished round as a chunk of the ledger, and the server model after it.
pub struct RoundRows {
    pub chunk: Chunk,
    pub model: Value,
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
    let weights = match &model {
        Value::Model { weights, .. } if planned.is_new => weights.clone(),
        _ => vec![],
    };
    let results: Vec<Counted> = scheduled
        .round
        .counted_tasks
        .iter()
        .zip(updates.iter().zip(&planned.updates))
        .zip(&weights)
        .map(|((counted, (value, order)), &weight)| Counted {
            task: counted.task,
            value,
            weight,
            key: executor.key(*order).to_string(),
        })
        .collect();
    let number = scheduled.number;
    let mut rows = Vec::new();
    if let Some(evaluations) = &planned.evaluations {
        rows = self::evaluations(number, planned.version, evaluations, inputs, executor)?;
    }
    let tasks = scheduled.tasks.iter().map(|task| task_row(task, &results)).collect();
    let mut round = round_row(scheduled, planned, &results);
    round.model_key = executor.key(planned.model).to_string();
    round.model_hash = Some(model.adapter_hash().to_string());
    let events = scheduled.events.iter().map(event_row).collect();
    Ok(RoundRows { chunk: Chunk { events, tasks, evaluations: rows, round }, model })
}

struct Counted<'a> {
    task: TaskId,
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

fn event_row(event: &EventRecord) -> EventRow {
    EventRow {
        at_ns: event.at.0,
        kind: event.kind.name().to_owned(),
        round: event.round.map(|round| round + 1),
        client: event.client,
        task: event.task.map(|task| task.0),
        bytes: event.bytes,
    }
}

fn task_row(task: &TaskRecord, results: &[Counted]) -> TaskRow {
    let counted = results.iter().find(|counted| counted.task == task.task);
    let record = counted.map(|counted| &counted.trained().record);
    let ns = |time: Option<Time>| time.map(|time| time.0);
    TaskRow {
        task: task.task.0,
        client: task.client,
        client_task: u64::from(task.client_task_number),
        round: task.round + 1,
        based_on_version: task.based_on_version,
        dispatched_at_ns: task.dispatched_at.0,
        download_done_at_ns: ns(task.download_done_at),
        training_done_at_ns: ns(task.training_done_at),
        upload_done_at_ns: ns(task.upload_done_at),
        ended_at_ns: task.ended_at.0,
        outcome: task.outcome.name().to_owned(),
        fate: fate(task.outcome.tally()).to_owned(),
        reason: record.and_then(|record| record.unusable.clone()),
        counted_in_version: task.counted_in_version,
        staleness: task.counted_in_version.map(|_| task.staleness),
        bytes_down: task.bytes_down,
        bytes_up: task.bytes_up,
        compute_flops: task.compute_flops,
        training_ns: task.training_ns,
        energy_mj: task.energy_mj,
        steps: record.map(|record| record.losses.len() as u32),
        tokens: record.map(|record| record.tokens),
        target_tokens: record.map(|record| record.target_tokens),
        loss_first: record.and_then(|record| record.losses.first().copied().flatten()),
        loss_last: record.and_then(|record| record.losses.last().copied().flatten()),
        loss_mean: record.and_then(|record| record.mean_loss()),
        update_norm: record.map(|record| record.update_norm),
        weight: counted.map(|counted| counted.weight),
        update_key: counted.map(|counted| counted.key.clone()),
        update_hash: counted.map(|counted| counted.value.adapter_hash().to_string()),
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

fn round_row(scheduled: &ScheduledRound, planned: &PlannedRound, results: &[Counted]) -> RoundRow {
    let round = &scheduled.round;
    let (status, reason) = match round.status {
        RoundStatus::Closed => ("closed", None),
        RoundStatus::Failed(failure) => ("failed", Some(failure.name().to_owned())),
    };
    let used: Vec<&Counted> = results.iter().filter(|counted| counted.weight > 0.0).collect();
    let weighted = |counted: &&Counted| counted.trained().record.mean_loss().map(|loss| loss * counted.weight);
    let train_loss: Option<f64> = used.iter().map(weighted).sum();
    RoundRow {
        round: scheduled.number,
        version: planned.version,
        opened_at_ns: round.opened_at.0,
        closed_at_ns: round.closed_at.0,
        status: status.to_owned(),
        reason,
        dispatched: round.dispatched,
        counted: round.counted,
        late: round.late,
        dropped: round.dropped,
        cancelled: round.cancelled,
        in_flight: round.in_flight,
        bytes_down: round.bytes_down,
        bytes_up: round.bytes_up,
        train_loss: train_loss.filter(|_| !used.is_empty()),
        update_norm: None,
        epsilon_spent: None,
        model_key: String::new(),
        model_hash: None,
        event_rows: 0,
        task_rows: 0,
        evaluation_rows: 0,
        digest: String::new(),
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
    let row = |client, split: &str, loss: &RowsLoss| EvaluationRow {
        round,
        version,
        subject: "global".into(),
        client,
        split: split.into(),
        rows: loss.rows,
        target_tokens: loss.target_tokens,
        loss: loss.loss,
        model_hash: Some(hash.clone()),
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

/// The losses of one client trained alone.
pub fn local_baseline(
    round: u32,
    local: &LocalBaseline,
    has_test: bool,
    executor: &Executor,
) -> Result<Vec<EvaluationRow>, OrderError> {
    let hash = executor.take(local.model)?.adapter_hash().to_string();
    let splits = if has_test { &["test", "held_out"][..] } else { &["held_out"] };
    let losses = losses(executor, local.evaluation)?;
    let row = |(split, loss): (&&str, &RowsLoss)| EvaluationRow {
        round,
        version: 0,
        subject: "local".into(),
        client: Some(local.client),
        split: (*split).into(),
        rows: loss.rows,
        target_tokens: loss.target_tokens,
        loss: loss.loss,
        model_hash: Some(hash.clone()),
    };
    Ok(splits.iter().zip(&losses).filter(|(_, loss)| loss.rows > 0).map(row).collect())
}

fn losses(executor: &Executor, order: crate::lineage::OrderId) -> Result<Vec<RowsLoss>, OrderError> {
    match executor.take(order)? {
        Value::Evaluated(evaluated) => Ok(evaluated.groups.clone()),
        _ => unreachable!("an evaluation gives losses"),
    }
}
