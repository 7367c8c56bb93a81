//! Round loop of a run: plans the rounds, waits for their results and writes them to the ledger in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::observer::{Observer, RoundReport};
use super::planned_round::{Evaluations, OwnModel, PlannedRound};
use super::planner::Planner;
use super::recorded_models::saved_notes;
use super::{RunError, ledger_rows};
use crate::adapter::{Adapter, save};
use crate::graph::Executor;
use crate::inputs::Inputs;
use crate::ledger::{EvaluationRow, LedgerWriter};
use crate::privacy::PrivacyPlan;
use crate::results::{MainLoss, Totals};
use crate::scenario::Scenario;
use crate::schedule::{Next, Rounds, ScheduledRound, Timeline};
use crate::store::Digest;

/// Source of a run's schedule: complete before any training, or simulated as results become known.
pub(crate) enum ScheduleSource {
    /// Complete schedule: no policy reads results.
    Known(Vec<ScheduledRound>),
    /// Timeline that continues as results are supplied to it.
    Live(Box<Timeline>),
}

/// State of the round loop.
pub(super) struct RoundLoop<'a, 'b> {
    pub scenario: &'a Scenario,
    /// Number of trainings that form one node, where training is not batch-invariant.
    pub keyed: Option<usize>,
    pub folder: &'a Path,
    pub inputs: &'a Inputs,
    pub privacy: Option<&'a PrivacyPlan>,
    pub executor: &'a Executor<'a>,
    pub ledger: LedgerWriter,
    pub observer: &'b mut dyn Observer,
    pub totals: Totals,
    /// Losses before the first round, until they are written with it.
    pub before: Vec<EvaluationRow>,
    /// Expected number of rounds, for messages.
    pub rounds: u32,
}

impl RoundLoop<'_, '_> {
    /// Runs all rounds and returns the digest of the run.
    ///
    /// # Errors
    /// The first failure of a node or of the disk, or an interruption.
    pub fn run(&mut self, source: ScheduleSource) -> Result<Digest, RunError> {
        let is_live = matches!(source, ScheduleSource::Live(_));
        let mut planner = Planner::new(self.scenario, self.inputs, self.privacy, self.executor, is_live, self.keyed);
        let before = planner.before();
        match source {
            ScheduleSource::Known(schedule) => self.run_known(&mut planner, &before, &schedule)?,
            ScheduleSource::Live(mut timeline) => self.run_live(&mut planner, &before, &mut timeline)?,
        }
        let began = Instant::now();
        let digest = self.ledger.finish()?;
        tracing::debug!(seconds = began.elapsed().as_secs_f64(), "the ledger's files are joined");
        Ok(digest)
    }

    /// Plans all rounds at once, so that they overlap wherever their inputs allow, and writes them in order.
    fn run_known(
        &mut self,
        planner: &mut Planner,
        before: &Evaluations,
        schedule: &[ScheduledRound],
    ) -> Result<(), RunError> {
        let counted: usize = schedule.iter().map(|round| round.round.counted_tasks.len()).sum();
        let tasks = counted * self.scenario.scenario.trainings_per_task() as usize;
        self.observer.scheduled(schedule.len(), Some(tasks));
        let mut planned = Vec::with_capacity(schedule.len());
        for (index, round) in schedule.iter().enumerate() {
            planned.push(planner.round(round, index + 1 == schedule.len())?);
        }
        let local = planner.trained_apart();
        self.evaluate_before(before)?;
        for (index, (scheduled, planned)) in schedule.iter().zip(&planned).enumerate() {
            let is_last = index + 1 == schedule.len();
            let saves = planner.server_round(scheduled);
            let local = if is_last { local.as_slice() } else { &[] };
            self.write(scheduled, planned, saves, is_last, local)?;
        }
        Ok(())
    }

    /// Plans and writes round by round, and supplies the results that the next client selection reads.
    fn run_live(
        &mut self,
        planner: &mut Planner,
        before: &Evaluations,
        timeline: &mut Timeline,
    ) -> Result<(), RunError> {
        self.observer.scheduled(self.rounds as usize, None);
        self.evaluate_before(before)?;
        let mut rounds = Rounds::default();
        let mut losses = BTreeMap::new();
        // A round is written one step late: only what comes after it tells whether it was the last one.
        let mut open: Option<ScheduledRound> = None;
        loop {
            let (completed, needs, is_end) = match timeline.next()? {
                Next::Record(record) => match rounds.push(record) {
                    Some(round) => (open.replace(round), None, false),
                    None => continue,
                },
                // The run goes on after this decision, so the round before it is not the last.
                Next::Needs(task) => (open.take(), Some(task), false),
                Next::End => (open.take(), None, true),
            };
            if let Some(scheduled) = completed {
                let planned = planner.round(&scheduled, is_end)?;
                let local = if is_end { planner.trained_apart() } else { vec![] };
                let saves = planner.server_round(&scheduled);
                losses.extend(self.write(&scheduled, &planned, saves, is_end, &local)?);
            }
            if let Some(task) = needs {
                let loss = losses.remove(&task.0).expect("only tasks that counted are asked for, once");
                timeline.supply(task, loss);
            }
            if is_end {
                return Ok(());
            }
        }
    }

    /// Takes the losses before the first round.
    fn evaluate_before(&mut self, before: &Evaluations) -> Result<(), RunError> {
        self.before = ledger_rows::evaluations(0, 0, before, self.inputs, self.executor)?;
        self.totals.add_before(&self.before);
        Ok(())
    }

    /// Waits for the results of a round and writes it. Returns the mean loss of each counted task by its number; NaN if it
    /// is not finite.
    fn write(
        &mut self,
        scheduled: &ScheduledRound,
        planned: &PlannedRound,
        server_round: Option<u32>,
        is_last: bool,
        local: &[OwnModel],
    ) -> Result<Vec<(u64, f64)>, RunError> {
        let ledger_rows::RoundRows { mut chunk, model } =
            ledger_rows::round(scheduled, planned, self.inputs, self.executor)?;
        chunk.evaluations.splice(0..0, self.before.drain(..));
        let every = self.scenario.scenario.output.save_adapter_every;
        let is_due = server_round.zip(every).is_some_and(|(round, every)| round.is_multiple_of(every)) || is_last;
        let place = format!("round-{:05}", server_round.unwrap_or(scheduled.number));
        let has_test = self.inputs.test.is_some();
        for local in local {
            chunk.evaluations.extend(ledger_rows::own_model(scheduled.number, local, has_test, self.executor)?.0);
        }
        for own in &planned.alone {
            let (rows, adapter) = ledger_rows::own_model(scheduled.number, own, has_test, self.executor)?;
            // A personal model that nothing was measured of is in no table, by which a saved adapter could be checked.
            let is_recorded = planned.counts_alike || !rows.is_empty();
            chunk.evaluations.extend(rows);
            if is_due && is_recorded {
                self.save_adapter(&format!("{place}/client-{}", own.client), &adapter)?;
            }
        }
        // Local baselines were added after the last round, and their lineage belongs to it.
        let end = if is_last { self.executor.count() } else { planned.nodes.end };
        chunk.lineage = ledger_rows::lineage(scheduled.number, planned.nodes.start..end, self.executor);
        self.totals.add(&chunk);
        if is_due && planned.has_server_model {
            self.save_adapter(&place, &model)?;
        }
        let loss = MainLoss::of_round(&chunk.evaluations, scheduled.number).and_then(|main| main.loss);
        let tokens = chunk.tasks.iter().filter_map(|task| task.tokens).sum();
        let rounds = self.rounds.max(scheduled.number);
        let report = RoundReport { row: chunk.round.clone(), rounds, tokens, loss };
        let counted = chunk.tasks.iter().filter(|task| task.steps.is_some());
        let losses = counted.map(|task| (task.task, task.loss_mean.unwrap_or(f64::NAN))).collect();
        let began = Instant::now();
        self.ledger.append(chunk)?;
        tracing::debug!(
            round = report.row.round,
            seconds = began.elapsed().as_secs_f64(),
            "the round is in the ledger"
        );
        self.observer.round(&report);
        Ok(losses)
    }

    /// Writes an adapter's files into `place` within the run's folder of adapters.
    fn save_adapter(&self, place: &str, adapter: &Adapter) -> Result<(), RunError> {
        let folder = self.folder.join("adapters").join(place);
        let notes = saved_notes(&self.scenario.scenario);
        Ok(save(&folder, adapter, &notes)?)
    }
}
