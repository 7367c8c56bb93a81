//! Spot check of a run: computes a round, or the tasks of one client, again without the training that precedes it.
//!
//! Inputs of the checked nodes are read from the store or from the run's saved adapters if their hash is the one in the
//! lineage, and are computed again otherwise. The results that are checked are never read. Of one client, the rows of its tasks
//! are compared too, except for their weights in the aggregate, which depend on the other updates.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, UInt64Type};

use super::replay::replayable;
use crate::adapter::peft;
use crate::algorithm::ServerState;
use crate::graph::{Executor, NodeId, Recorded, Value};
use crate::inputs::{InputCache, Inputs, TrainingBatches};
use crate::ledger::{Difference, Lineage, LineageEntry, Manifest, compare_round, compare_tasks, read_table};
use crate::run::{
    Evaluations, Observer, PlannedRound, Planner, Prepared, RunError, RunOptions, ScheduleSource, check_record,
    ledger_rows, what_changed,
};
use crate::scenario::Scenario;
use crate::schedule::{Next, Rounds, ScheduledRound, Timeline};
use crate::store::Store;

/// Part of a run to check.
#[derive(Clone, Debug, Default)]
pub struct SpotCheck {
    /// Number of a round among those of all aggregators, from 1; `None` selects all rounds.
    pub round: Option<u32>,
    /// Client, by name or by number, whose updates alone are checked; `None` selects the whole round.
    pub client: Option<String>,
}

/// Outcome of a spot check.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct SpotCheckReport {
    /// Number of results that were computed and compared.
    pub checked: usize,
    /// Number of trainings among everything that was computed.
    pub trained: usize,
    /// Number of results that were read instead, after a check of their hashes against the lineage.
    pub read: usize,
    /// First difference, if there is one.
    pub difference: Option<String>,
}

/// Spot-checks the run in `run_folder`. Inputs are read from the store of the options; nothing is written.
///
/// # Errors
/// As [`super::replay`]; and if the run has no such round, client, or update that counted.
pub fn sample(
    run_folder: &Path,
    sample: &SpotCheck,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<SpotCheckReport, RunError> {
    let (manifest, scenario) = replayable(run_folder)?;
    let prepared = Prepared::new(&scenario, options, &mut InputCache::default())?;
    let now = prepared.manifest(&scenario);
    if now.genesis != manifest.genesis {
        return Ok(SpotCheckReport {
            difference: Some(what_changed(&manifest, &now).to_string()),
            ..SpotCheckReport::default()
        });
    }
    let Prepared { inputs, privacy, batches, source, .. } = prepared;
    let schedule = match source {
        ScheduleSource::Known(schedule) => schedule,
        ScheduleSource::Live(timeline) => as_recorded(*timeline, run_folder)?,
    };
    let none = Store::none();
    let computes = inputs.computes(&scenario, &none, options.stop);
    let (together, keyed) = match batches {
        TrainingBatches::Ready(most) => (most, None),
        TrainingBatches::Keyed(most) => (1, Some(most)),
    };
    let executor = Executor::new(&computes, &none, options.stop, together);
    observer.working(executor.counters());
    // Plans the whole run, so that nodes have the same numbers and keys as in the run. Nothing is demanded yet.
    let mut planner = Planner::new(&scenario, &inputs, privacy.as_ref(), &executor, false, keyed).without_demands();
    let before = planner.before();
    let mut planned = Vec::with_capacity(schedule.len());
    for (index, round) in schedule.iter().enumerate() {
        planned.push(planner.round(round, index + 1 == schedule.len())?);
    }
    let check = Check {
        run_folder,
        manifest: &manifest,
        scenario: &scenario,
        inputs: &inputs,
        executor: &executor,
        lineage: Lineage::read(run_folder)?,
        before,
        schedule,
        planned,
    };
    let mut report = check.sample(sample, options)?;
    if report.difference.is_none() {
        report.difference = check.of_whole_run()?;
    }
    Ok(report)
}

/// Returns the schedule of a run whose client selection reads losses, using the losses in its table instead of training.
fn as_recorded(mut timeline: Timeline, run_folder: &Path) -> Result<Vec<ScheduledRound>, RunError> {
    let tasks = read_table(run_folder, "tasks")?;
    let numbers = tasks["task"].as_primitive::<UInt64Type>();
    let means = tasks["loss_mean"].as_primitive::<Float64Type>();
    let mut losses = BTreeMap::new();
    for row in 0..tasks.num_rows() {
        // The run supplied NaN to its selection for a loss that was not finite, and the table has a null there.
        let loss = if means.is_valid(row) { means.value(row) } else { f64::NAN };
        losses.insert(numbers.value(row), loss);
    }
    let mut rounds = Rounds::default();
    let mut schedule = Vec::new();
    loop {
        match timeline.next()? {
            Next::Record(record) => schedule.extend(rounds.push(record)),
            Next::Needs(task) => timeline.supply(task, losses.get(&task.0).copied().unwrap_or(f64::NAN)),
            Next::End => return Ok(schedule),
        }
    }
}

/// Part of a run that is computed again.
struct Compared {
    targets: BTreeSet<NodeId>,
    /// Nodes that must be computed before the targets.
    again: BTreeSet<NodeId>,
    /// Rounds by their index.
    rounds: Range<usize>,
    /// Number of the client whose tasks alone are compared.
    client: Option<usize>,
}

/// Recorded run together with the plan that its scenario gives now, of which nothing has been computed.
struct Check<'a> {
    run_folder: &'a Path,
    manifest: &'a Manifest,
    scenario: &'a Scenario,
    inputs: &'a Inputs,
    executor: &'a Executor<'a>,
    lineage: Lineage,
    before: Evaluations,
    schedule: Vec<ScheduledRound>,
    planned: Vec<PlannedRound>,
}

impl Check<'_> {
    /// Computes and compares the chosen part of the run.
    fn sample(&self, sample: &SpotCheck, options: &RunOptions) -> Result<SpotCheckReport, RunError> {
        let rounds = self.planned.len();
        if let Some(round) = sample.round
            && (round == 0 || round as usize > rounds)
        {
            return Err(RunError::NoRound { run: self.run_folder.to_owned(), round, rounds: rounds as u32 });
        }
        let chosen = match sample.round {
            Some(round) => round as usize - 1..round as usize,
            None => 0..rounds,
        };
        let client = sample.client.as_deref().map(|client| self.client_number(client)).transpose()?;
        let targets = self.targets(chosen.clone(), client);
        if let Some(name) = &sample.client
            && targets.is_empty()
        {
            return Err(RunError::NothingCounted { client: name.clone() });
        }
        let mut report = SpotCheckReport { checked: targets.len(), ..SpotCheckReport::default() };
        if let Some(difference) = self.other_key(self.planned[chosen.end - 1].nodes.end) {
            return Ok(SpotCheckReport { difference: Some(difference), ..report });
        }
        let again = self.prepare(&targets, &options.store, &mut report);
        let compared = Compared { targets, again, rounds: chosen, client };
        report.difference = self.executor.run(options.workers, || self.compare(&compared))?;
        report.trained = self.executor.finished().iter().map(|node| node.trainings).sum();
        Ok(report)
    }

    /// Returns the first difference that shows without computing anything again: in the number of rounds and nodes, in the
    /// digest chain, or in files that do not follow from the tables. A sample of a run says something of its digest only if
    /// the rest of the record belongs to this digest.
    fn of_whole_run(&self) -> Result<Option<String>, RunError> {
        let recorded = read_table(self.run_folder, "rounds")?.num_rows();
        let planned = self.planned.len();
        if recorded != planned {
            return Ok(Some(format!("the scenario gives {planned} rounds, table rounds has {recorded}")));
        }
        // Nodes of models that are trained for the evaluation alone, which are not planned here, follow those of the last round.
        let has_more = self.scenario.scenario.evaluation.trains_apart();
        let nodes = self.executor.count();
        let entries = self.lineage.entries.len();
        if entries < nodes || (entries > nodes && !has_more) {
            return Ok(Some(format!("the scenario gives {nodes} orders, table lineage has {entries}")));
        }
        if let Some(difference) = self.other_key(nodes) {
            return Ok(Some(difference));
        }
        let found = check_record(self.run_folder, self.manifest)?;
        Ok(found.into_iter().next().map(|difference| difference.0))
    }

    /// Returns the nodes whose results are checked.
    fn targets(&self, rounds: Range<usize>, client: Option<usize>) -> BTreeSet<NodeId> {
        match client {
            Some(client) => rounds.flat_map(|round| self.updates_of(round, client)).collect(),
            None => self.planned[rounds].iter().flat_map(|round| round.nodes.clone()).map(NodeId::new).collect(),
        }
    }

    /// Returns a client's updates that count in a round, which is given by its index.
    fn updates_of(&self, round: usize, client: usize) -> Vec<NodeId> {
        let counted_tasks = &self.schedule[round].round.counted_tasks;
        let counted = counted_tasks.iter().zip(&self.planned[round].updates);
        counted.filter(|(task, _)| task.client as usize == client).map(|(_, &update)| update).collect()
    }

    /// Returns a client's ranks around its tasks that count in a round, which is given by its index.
    fn ranks_of(&self, round: usize, client: usize) -> Vec<[NodeId; 2]> {
        let counted_tasks = &self.schedule[round].round.counted_tasks;
        let ranks = counted_tasks.iter().zip(&self.planned[round].ranks);
        ranks.filter(|(task, _)| task.client as usize == client).map(|(_, &ranks)| ranks).collect()
    }

    /// Returns the number of a client that is given by its name or its number; names take precedence.
    fn client_number(&self, client: &str) -> Result<usize, RunError> {
        let clients = &self.inputs.clients;
        if let Some(number) = clients.iter().position(|known| known.id == client) {
            return Ok(number);
        }
        match client.parse::<usize>() {
            Ok(number) if number < clients.len() => Ok(number),
            _ => Err(RunError::NoClient { client: client.to_owned(), clients: clients.len() }),
        }
    }

    /// Describes the first node, among those below a number, that has a different key in the run's lineage.
    fn other_key(&self, end: usize) -> Option<String> {
        let found = self
            .executor
            .recorded(0..end)
            .into_iter()
            .find(|node| self.lineage.entries.get(node.id.index()).is_none_or(|entry| entry.key != node.key))?;
        let Recorded { id, kind, key, .. } = found;
        let said = self.lineage.entries.get(id.index()).map_or("nothing".to_owned(), |entry| entry.key.to_string());
        Some(format!("order {} ({kind}): its key is {key}, the lineage says {said}", id.index()))
    }

    /// Supplies the available results that the targets depend on. Returns the nodes that must be computed again before the
    /// targets.
    fn prepare(&self, targets: &BTreeSet<NodeId>, store: &Store, report: &mut SpotCheckReport) -> BTreeSet<NodeId> {
        let inputs: BTreeMap<NodeId, Vec<NodeId>> =
            self.executor.recorded(0..self.executor.count()).into_iter().map(|one| (one.id, one.inputs)).collect();
        // Walks from the targets toward their inputs, and stops wherever a result can be read. The targets themselves count
        // as seen: a target that another one depends on is computed like all of them.
        let mut pending: Vec<NodeId> = targets.iter().flat_map(|target| inputs[target].clone()).collect();
        let mut seen = targets.clone();
        let mut again = BTreeSet::new();
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.available(&self.lineage.entries[id.index()], store) {
                Some(value) => {
                    self.executor.give(id, value);
                    report.read += 1;
                }
                None => {
                    again.insert(id);
                    pending.extend(&inputs[&id]);
                }
            }
        }
        again
    }

    /// Returns a stored or saved result of a node, if its hash is the one in the lineage.
    fn available(&self, entry: &LineageEntry, store: &Store) -> Option<Value> {
        let expected = entry.result?;
        let stored = store.get(entry.key).and_then(|bytes| Value::from_bytes(&bytes));
        stored.into_iter().chain(self.saved(entry)).find(|value| value.hash() == expected)
    }

    /// Returns the model that the run saved after the round of this node, if the node made one.
    fn saved(&self, entry: &LineageEntry) -> Option<Value> {
        let index = entry.round.checked_sub(1).filter(|_| entry.kind == "aggregate")? as usize;
        // Rounds of edges are saved under other numbers, and their hashes differ.
        let folder = self.run_folder.join("adapters").join(format!("round-{:05}", self.schedule.get(index)?.number));
        let adapter = peft::read_folder(&folder).ok()?.adapter;
        // A file of PEFT has no server state. If the run's server had one, the hash differs and the model is not used.
        let adapter = std::sync::Arc::new(adapter);
        Some(Value::Model { adapter, weights: vec![], state: ServerState::default(), clip_norm: None, error: None })
    }

    /// Computes the targets and compares them: every result that the lineage shows, and the rows of a whole round or of the
    /// client's tasks. Returns the first difference.
    fn compare(&self, compared: &Compared) -> Result<Option<String>, RunError> {
        let Compared { targets, again, rounds, client } = compared;
        let whole_round = client.is_none().then_some(rounds.start);
        let entries = &self.lineage.entries;
        let mut recorded = Vec::new();
        for &id in targets.union(again) {
            if entries[id.index()].result.is_some() {
                self.executor.demand(id);
                recorded.push(id);
            }
        }
        if let Some(client) = *client {
            // Rows of the tasks take the updates once more.
            targets.iter().for_each(|&update| self.executor.demand(update));
            for round in rounds.clone() {
                self.ranks_of(round, client).into_iter().flatten().for_each(|rank| self.executor.demand(rank));
            }
        }
        if let Some(round) = whole_round {
            self.planned[round].demand(self.executor);
            if round == 0 {
                self.before.demand(self.executor);
            }
        }
        for id in recorded {
            let found = self.executor.take(id)?.hash();
            let entry = &entries[id.index()];
            if let Some(expected) = entry.result.filter(|&expected| expected != found) {
                return Ok(Some(format!(
                    "order {} ({} of round {}): its result is {found}, the lineage says {expected}",
                    id.index(),
                    entry.kind,
                    entry.round
                )));
            }
        }
        let found = match (whole_round, client) {
            (Some(round), _) => self.compare_rows(round)?,
            (None, Some(client)) => self.compare_tasks(rounds.clone(), *client)?,
            (None, None) => None,
        };
        Ok(found.map(|difference| difference.0))
    }

    /// Makes the rows of a client's tasks again and compares them.
    fn compare_tasks(&self, rounds: Range<usize>, client: usize) -> Result<Option<Difference>, RunError> {
        let mut made = Vec::new();
        for round in rounds {
            let scheduled = &self.schedule[round];
            let rows = ledger_rows::tasks_of_client(
                scheduled,
                &self.planned[round],
                client as u32,
                &self.inputs.facts,
                self.executor,
            )?;
            made.push((scheduled.number, rows));
        }
        Ok(compare_tasks(self.run_folder, self.manifest.schema_version, client as u32, &made)?)
    }

    /// Makes the rows of a round again and compares them. Those of models that are trained for the evaluation alone are not compared: in
    /// the last round, they are between the rows of the server's model and those of clients' own.
    fn compare_rows(&self, index: usize) -> Result<Option<Difference>, RunError> {
        let scheduled = &self.schedule[index];
        let planned = &self.planned[index];
        let ledger_rows::RoundRows { mut chunk, .. } =
            ledger_rows::round(scheduled, planned, self.inputs, self.executor)?;
        if index == 0 {
            let before = ledger_rows::evaluations(0, 0, &self.before, self.inputs, self.executor)?;
            chunk.evaluations.splice(0..0, before);
        }
        let has_more = index + 1 == self.schedule.len() && self.scenario.scenario.evaluation.trains_apart();
        let apart = has_more.then_some(chunk.evaluations.len());
        let has_test = self.inputs.test.is_some();
        for own in &planned.alone {
            chunk.evaluations.extend(ledger_rows::own_model(scheduled.number, own, has_test, self.executor)?.0);
        }
        chunk.lineage = ledger_rows::lineage(scheduled.number, planned.nodes.clone(), self.executor);
        Ok(compare_round(self.run_folder, self.manifest.schema_version, chunk, apart)?)
    }
}
