//! Conversion of the schedule and the computed results into rows of the ledger.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fedreplay_sim::{EventRecord, RoundRecord, RoundStatus, TaskId, TaskRecord, Work};

use super::planned_round::{Evaluations, OwnModel, PlannedRound};
use super::scheduled_benchmarks;
use crate::adapter::Adapter;
use crate::algorithm::AggregationError;
use crate::graph::{Executor, GraphError, NodeId, Recorded, RowsLoss, Trained, Value};
use crate::inputs::Inputs;
use crate::ledger::{
    AggregationRow, Chunk, EvalSubject, EvaluationRow, EventRow, LOSSES, LineageRow, PopulationRow, RoundEnd, RoundRow,
    Split, TaskRow,
};
use crate::schedule::client_facts::{ClientFacts, Clients, name_of};
use crate::schedule::{DeviceClass, LinkClass, Place, ScheduledRound};

/// Returns the rows of table `population`, one per client.
pub fn population(clients: &Clients) -> impl Iterator<Item = PopulationRow> {
    let facts = clients.facts.iter().zip(&clients.placement.places);
    facts.enumerate().map(|(index, (client, place))| population_row(clients, index, client, place))
}

/// Returns the row of one client.
fn population_row(clients: &Clients, index: usize, client: &ClientFacts, place: &Place) -> PopulationRow {
    let placement = &clients.placement;
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
        flops_per_second: device.speed.map_or_else(|| measured_speed(work), |speed| speed.0),
        memory_bytes: device.memory.map(|memory| memory.0),
        link: link_name.clone(),
        downlink_bits_per_second: link.down.0,
        uplink_bits_per_second: link.up.0,
        latency_ns: link.latency.0,
        region: place.region.map(|region| placement.regions[region as usize].clone()),
        task_flops: work.flops,
        task_memory_bytes: work.peak_memory_bytes,
    }
}

/// [FLOP/s] -- Returns the speed at which a task's operations take its measured time.
fn measured_speed(work: &Work) -> u64 {
    let nanoseconds = work.training.map_or(1, |training| training.0.max(1));
    let speed = u128::from(work.flops) * 1_000_000_000 / u128::from(nanoseconds);
    u64::try_from(speed).unwrap_or(u64::MAX).max(1)
}

/// Finished round as a chunk of the ledger, with the aggregator's model after it.
pub struct RoundRows {
    pub chunk: Chunk,
    pub model: Arc<Adapter>,
}

/// Collects the results of a round, waiting for those that are not computed yet.
///
/// # Errors
/// The first failure of any node.
pub fn round(
    scheduled: &ScheduledRound,
    planned: &PlannedRound,
    inputs: &Inputs,
    executor: &Executor,
) -> Result<RoundRows, GraphError> {
    // Takes match the demands of `PlannedRound::demand`, so every value is released once its rows are made.
    let updates = planned.updates.iter().map(|&update| executor.take(update)).collect::<Result<Vec<_>, _>>()?;
    let model = executor.take(planned.model)?;
    // A round that failed has no new model. Its version is an older model, whose weights and error belong to another round.
    let weights = if planned.is_new { model.weights().to_vec() } else { vec![] };
    let error = model.aggregation_error().filter(|_| planned.is_new);
    let mut results = BTreeMap::new();
    let counted_tasks = scheduled.round.counted_tasks.iter().zip(&planned.updates);
    for (((counted, &update), value), &weight) in counted_tasks.zip(&updates).zip(&weights) {
        let key = executor.key(update).to_string();
        results.insert(counted.task, Counted { value, weight, key, ranks: None });
    }
    for (counted, &ranks) in scheduled.round.counted_tasks.iter().zip(&planned.ranks) {
        let ranks = Some(taken_ranks(executor, ranks)?);
        results.entry(counted.task).and_modify(|result| result.ranks = ranks);
    }
    let base = executor.take(planned.base)?.adapter().clone();
    // With another change of the base, the two adapters are not of one model, whose difference they would be.
    let is_of_base = model.adapter().base_change == base.base_change;
    let mut rows = Vec::new();
    if let Some(evaluations) = &planned.evaluations {
        rows = self::evaluations(scheduled.number, planned.version, evaluations, inputs, executor)?;
    }
    let facts = &inputs.facts;
    let tasks: Vec<_> = scheduled.tasks.iter().map(|task| trained_task(facts, task, results.get(&task.task))).collect();
    let round = RoundRow {
        train_loss: train_loss(&results, planned.counts_alike),
        update_norm: is_of_base.then(|| model.adapter().difference(&base).norm()),
        aggregation_error: error.and_then(AggregationError::total),
        kept_rank: error.filter(|error| !error.kept_ranks.is_empty()).map(|error| error.kept_ranks.iter().sum()),
        carbon_ug: facts.carbon.as_ref().and_then(|_| tasks.iter().map(|task| task.carbon_ug).sum()),
        epsilon_spent: planned.epsilon_spent,
        model_key: Some(executor.key(planned.model).to_string()),
        model_hash: Some(model.adapter_hash().to_string()),
        ..timed_round(&scheduled.round, scheduled.number)
    };
    let events = scheduled.events.iter().map(event).collect();
    let (figures, generations) =
        scheduled_benchmarks::rows(&planned.benchmarks, executor, scheduled.number, planned.version)?;
    rows.extend(figures);
    let aggregation = error.map(|error| aggregation(scheduled.number, model.adapter(), error)).unwrap_or_default();
    let chunk = Chunk { events, tasks, evaluations: rows, generations, lineage: vec![], aggregation, round };
    Ok(RoundRows { chunk, model: model.adapter().clone() })
}

/// Returns the rows of table `aggregation` of a round, one per module.
fn aggregation(round: u32, model: &Adapter, error: &AggregationError) -> Vec<AggregationRow> {
    let mut rows = Vec::with_capacity(error.modules.len());
    for (place, (module, found)) in model.layout.modules.iter().zip(&error.modules).enumerate() {
        let kept_rank = error.kept_ranks.get(place).copied();
        rows.push(AggregationRow {
            round,
            module: module.path.clone(),
            norm: found.norm,
            error: found.error,
            kept_rank,
        });
    }
    rows
}

/// Returns the nodes with these numbers as rows of table `lineage`.
pub fn lineage(round: u32, nodes: Range<usize>, executor: &Executor) -> Vec<LineageRow> {
    executor.recorded(nodes).into_iter().map(|node| lineage_row(round, node)).collect()
}

fn lineage_row(round: u32, node: Recorded) -> LineageRow {
    let inputs: Vec<String> = node.inputs.iter().map(|input| input.index().to_string()).collect();
    LineageRow {
        order: node.id.index() as u64,
        round,
        kind: node.kind,
        inputs: (!inputs.is_empty()).then(|| inputs.join(" ")),
        code: node.recipe.code,
        engine: node.recipe.engine.map(|engine| engine.to_string()),
        parameters: node.recipe.parameters,
        key: node.key.to_string(),
        result: node.result.map(|result| result.to_string()),
    }
}

/// Result of a task that counted.
struct Counted<'a> {
    value: &'a Value,
    weight: f64,
    key: String,
    /// Ranks of the client before and after the task; `None` if it prunes none.
    ranks: Option<[u32; 2]>,
}

impl Counted<'_> {
    /// Returns the update.
    fn trained(&self) -> &Trained {
        match self.value {
            Value::Trained(trained) => trained,
            _ => unreachable!("a training order gives an update"),
        }
    }
}

/// Takes the ranks of a client before and after a task from the executor.
fn taken_ranks(executor: &Executor, ranks: [NodeId; 2]) -> Result<[u32; 2], GraphError> {
    let mut taken = [0; 2];
    for (taken, rank) in taken.iter_mut().zip(ranks) {
        *taken = match executor.take(rank)? {
            Value::Rank(rank) => rank,
            _ => unreachable!("a client's rank is a number"),
        };
    }
    Ok(taken)
}

/// Returns the row of an event of virtual time.
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

/// Returns the row of a task with the columns that follow from virtual time.
pub fn timed_task(clients: &Clients, task: &TaskRecord) -> TaskRow {
    TaskRow {
        task: task.task.0,
        client: task.client,
        client_task: u64::from(task.client_task_number),
        aggregator: task.aggregator,
        round: task.round + 1,
        based_on_version: task.based_on_version,
        dispatched_at_ns: task.dispatched_at.0,
        download_done_at_ns: task.download_done_at.map(|time| time.0),
        training_done_at_ns: task.training_done_at.map(|time| time.0),
        upload_done_at_ns: task.upload_done_at.map(|time| time.0),
        ended_at_ns: task.ended_at.0,
        // The outcome is the detailed reason; the fate is the class by which rounds count the task.
        outcome: task.outcome,
        fate: task.outcome.tally(),
        counted_in_version: task.counted_in_version,
        staleness: task.counted_in_version.map(|_| task.staleness),
        bytes_down: task.bytes_down,
        bytes_up: task.bytes_up,
        wire_bytes_down: task.wire_bytes_down,
        wire_bytes_up: task.wire_bytes_up,
        compute_flops: task.compute_flops,
        training_ns: task.training_ns,
        energy_mj: task.energy_mj,
        download_mj: task.download_mj,
        training_mj: task.training_mj,
        upload_mj: task.upload_mj,
        carbon_ug: clients.carbon_ug(task),
        ..TaskRow::default()
    }
}

/// Makes the rows of one client's tasks in a round, waiting for its updates. Their weights in the aggregate, which depend on
/// the other updates, are null.
///
/// # Errors
/// The first failure of a training.
pub fn tasks_of_client(
    scheduled: &ScheduledRound,
    planned: &PlannedRound,
    client: u32,
    clients: &Clients,
    executor: &Executor,
) -> Result<Vec<TaskRow>, GraphError> {
    let mut updates = BTreeMap::new();
    for (place, counted) in scheduled.round.counted_tasks.iter().enumerate() {
        if counted.client == client {
            let update = planned.updates[place];
            let ranks = planned.ranks.get(place).map(|&ranks| taken_ranks(executor, ranks)).transpose()?;
            updates.insert(counted.task, (executor.take(update)?, executor.key(update).to_string(), ranks));
        }
    }
    let mut rows = Vec::new();
    for task in scheduled.tasks.iter().filter(|task| task.client == client) {
        let update = updates.get(&task.task);
        let counted = update.map(|(value, key, ranks)| Counted { value, weight: 0.0, key: key.clone(), ranks: *ranks });
        rows.push(TaskRow { weight: None, ..trained_task(clients, task, counted.as_ref()) });
    }
    Ok(rows)
}

/// Returns the row of a task, with the results of its training if it counted.
fn trained_task(clients: &Clients, task: &TaskRecord, counted: Option<&Counted>) -> TaskRow {
    let row = timed_task(clients, task);
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
        rank_before: counted.ranks.map(|[before, _]| before),
        rank_after: counted.ranks.map(|[_, after]| after),
        weight: Some(counted.weight),
        update_key: Some(counted.key.clone()),
        update_hash: Some(counted.value.adapter_hash().to_string()),
        ..row
    }
}

/// Computes the mean of the counted tasks' losses, weighted by their share in the aggregate, or unweighted where nothing is
/// aggregated. `None` if one of the losses was not finite.
fn train_loss(results: &BTreeMap<TaskId, Counted>, all_alike: bool) -> Option<f64> {
    // Tasks without weight, such as unusable updates, do not take part, whatever their loss is.
    let mut shares = Vec::with_capacity(results.len());
    let mut losses = Vec::with_capacity(results.len());
    for counted in results.values() {
        let share = if all_alike { 1.0 } else { counted.weight };
        if share > 0.0 {
            shares.push(share);
            losses.push(counted.trained().record.mean_loss().map(|loss| loss * share));
        }
    }
    let total: f64 = shares.into_iter().sum();
    let sum: Option<f64> = losses.into_iter().sum();
    sum.filter(|_| total > 0.0).map(|sum| sum / total)
}

/// Returns the row of a round with the columns that follow from virtual time.
pub fn timed_round(round: &RoundRecord, number: u32) -> RoundRow {
    let (status, reason) = match round.status {
        RoundStatus::Closed => (RoundEnd::Closed, None),
        RoundStatus::Failed(failure) => (RoundEnd::Failed, Some(failure.name().to_owned())),
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
        wire_bytes_down: round.wire_bytes_down,
        wire_bytes_up: round.wire_bytes_up,
        ..RoundRow::default()
    }
}

/// Model to which a row of losses belongs.
#[derive(Clone, Copy)]
pub struct EvaluatedModel<'a> {
    pub round: u32,
    pub version: u32,
    pub subject: EvalSubject,
    pub client: Option<u32>,
    /// Hash of the model's adapter.
    pub hash: &'a str,
}

/// Returns the row with the losses of one model on one split.
pub fn loss_row(model: EvaluatedModel, split: Split, loss: &RowsLoss) -> EvaluationRow {
    let is_likelihood = loss.preference.is_none();
    EvaluationRow {
        round: model.round,
        version: model.version,
        subject: model.subject,
        client: model.client,
        benchmark: LOSSES.into(),
        split,
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

/// Returns the losses of one server model: on the test rows, then on each client's held-out rows.
pub fn evaluations(
    round: u32,
    version: u32,
    evaluations: &Evaluations,
    inputs: &Inputs,
    executor: &Executor,
) -> Result<Vec<EvaluationRow>, GraphError> {
    let hash = executor.take(evaluations.model)?.adapter_hash().to_string();
    let model = EvaluatedModel { round, version, subject: EvalSubject::Global, client: None, hash: &hash };
    let mut rows = Vec::with_capacity(1 + inputs.clients.len());
    if let Some(test) = evaluations.test {
        rows.extend(losses(executor, test)?.iter().map(|loss| loss_row(model, Split::Test, loss)));
    }
    // The groups of this evaluation are the clients; one without held-out rows has no row in the table.
    for (client, loss) in losses(executor, evaluations.held_out)?.iter().enumerate() {
        if loss.rows > 0 {
            rows.push(loss_row(EvaluatedModel { client: Some(client as u32), ..model }, Split::HeldOut, loss));
        }
    }
    Ok(rows)
}

/// Returns the losses of a client's own model, and its adapter.
pub fn own_model(
    round: u32,
    own: &OwnModel,
    has_test: bool,
    executor: &Executor,
) -> Result<(Vec<EvaluationRow>, Arc<Adapter>), GraphError> {
    let model = executor.take(own.model)?;
    let hash = model.adapter_hash().to_string();
    let splits = if has_test { vec![Split::Test, Split::HeldOut] } else { vec![Split::HeldOut] };
    let losses = losses(executor, own.evaluation)?;
    let &OwnModel { client, subject, version, .. } = own;
    let evaluated = EvaluatedModel { round, version, subject, client: Some(client), hash: &hash };
    let mut rows = Vec::with_capacity(splits.len());
    for (split, loss) in splits.into_iter().zip(&losses) {
        if loss.rows > 0 {
            rows.push(loss_row(evaluated, split, loss));
        }
    }
    Ok((rows, model.adapter().clone()))
}

/// Takes the losses of an evaluation from the executor.
fn losses(executor: &Executor, evaluation: NodeId) -> Result<Vec<RowsLoss>, GraphError> {
    match executor.take(evaluation)? {
        Value::Evaluated(evaluated) => Ok(evaluated.groups.clone()),
        _ => unreachable!("an evaluation gives losses"),
    }
}
