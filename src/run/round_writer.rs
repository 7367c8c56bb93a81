//! Plays the rounds of a run: orders their results, waits for them, and writes them in turn.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::observer::{Observer, RoundReport};
use super::planned_round::{Evaluations, LocalBaseline, PlannedRound};
use super::planner::Planner;
use super::{RunError, ledger_rows};
use crate::adapter::{Adapter, peft};
use crate::graph::Executor;
use crate::inputs::Inputs;
use crate::ledger::{EvaluationRow, LedgerWriter};
use crate::privacy::Protection;
use crate::results::{Totals, main_loss, main_ranking};
use crate::scenario::Loaded;
use crate::schedule::{Next, Rounds, ScheduledRound, Timeline};
use crate::store::Digest;

/// The schedule, as far as it is known before any training.
pub(crate) enum Course {
    /// All of it: no policy reads results.
    Known(Vec<ScheduledRound>),
    /// It comes about as results do.
    Live(Box<Timeline>),
}

/// What playing the rounds needs and builds up.
pub(super) struct Stage<'a, 'b> {
    pub loaded: &'a Loaded,
    /// How many trainings are ordered as one, where company may change bits.
    pub keyed: Option<usize>,
    pub folder: &'a Path,
    pub inputs: &'a Inputs,
    pub privacy: Option<&'a Protection>,
    pub executor: &'a Executor<'a>,
    pub ledger: LedgerWriter,
    pub observer: &'b mut dyn Observer,
    pub totals: Totals,
    /// Losses before the first round, until they are written with it.
    pub before: Vec<EvaluationRow>,
    /// Rounds to come, for messages.
    pub rounds: u32,
}

impl Stage<'_, '_> {
    /// Plays all rounds and gives the digest of the run.
    ///
    /// # Errors
    /// The first failure of an order or of the disk, or that the run was asked to stop.
    pub fn play(&mut self, course: Course) -> Result<Digest, RunError> {
        let is_live = matches!(course, Course::Live(_));
        let loaded = self.loaded;
        let (privacy, keyed) = (self.privacy, self.keyed);
        let mut planner = Planner::new(loaded, self.inputs, privacy, self.executor, is_live, keyed);
        let before = planner.before();
        match course {
            Course::Known(schedule) => self.play_known(&mut planner, &before, &schedule)?,
            Course::Live(mut timeline) => self.play_live(&mut planner, &before, &mut timeline)?,
        }
        let began = Instant::now();
        let digest = self.ledger.finish()?;
        tracing::debug!(seconds = began.elapsed().as_secs_f64(), "the ledger's files are joined");
        Ok(digest)
    }

    /// Orders all at once, so that rounds overlap wherever their inputs allow, and writes the rounds in turn.
    fn play_known(
        &mut self,
        planner: &mut Planner,
        before: &Evaluations,
        schedule: &[ScheduledRound],
    ) -> Result<(), RunError> {
        let tasks = schedule.iter().map(|round| round.round.counted_tasks.len()).sum();
        self.observer.scheduled(schedule.len(), Some(tasks));
        let is_last = |index: usize| index + 1 == schedule.len();
        let plan = |(index, round): (usize, &ScheduledRound)| planner.round(round, is_last(index));
        let planned = schedule.iter().enumerate().map(plan).collect::<Result<Vec<_>, _>>()?;
        let local = planner.local_baselines();
        self.evaluate_before(before)?;
        for (index, (scheduled, planned)) in schedule.iter().zip(&planned).enumerate() {
            let saves = planner.server_round(scheduled);
            let local = if is_last(index) { local.as_slice() } else { &[] };
            self.write(scheduled, planned, saves, is_last(index), local)?;
        }
        Ok(())
    }

    /// Orders and writes round by round, and hands in the results that the next selection reads.
    fn play_live(
        &mut self,
        planner: &mut Planner,
        before: &Evaluations,
        timeline: &mut Timeline,
    ) -> Result<(), RunError> {
        self.observer.scheduled(self.rounds as usize, None);
        self.evaluate_before(before)?;
        let (mut rounds, mut losses) = (Rounds::default(), BTreeMap::new());
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
                let local = if is_end { planner.local_baselines() } else { vec![] };
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

    fn evaluate_before(&mut self, before: &Evaluations) -> Result<(), RunError> {
        self.before = ledger_rows::evaluations(0, 0, before, self.inputs, self.executor)?;
        self.totals.loss_before = main_loss(&self.before, "global");
        self.totals.ranking_before = main_ranking(&self.before);
        Ok(())
    }

    /// Waits for the results of a round and writes it. Returns the mean loss of each counted task; one that is not
    /// finite is NaN.
    fn write(
        &mut self,
        scheduled: &ScheduledRound,
        planned: &PlannedRound,
        server_round: Option<u32>,
        is_last: bool,
        local: &[LocalBaseline],
    ) -> Result<Vec<(u64, f64)>, RunError> {
        let ledger_rows::RoundRows { mut chunk, model } =
            ledger_rows::round(scheduled, planned, self.inputs, self.executor)?;
        chunk.evaluations.splice(0..0, self.before.drain(..));
        let every = self.loaded.scenario.output.save_adapter_every;
        let is_due = server_round.zip(every).is_some_and(|(round, every)| round.is_multiple_of(every)) || is_last;
        let place = format!("round-{:05}", server_round.unwrap_or(scheduled.number));
        let has_test = self.inputs.test.is_some();
        for local in local {
            chunk.evaluations.extend(ledger_rows::local_baseline(scheduled.number, local, has_test, self.executor)?.0);
        }
        for own in &planned.alone {
            let (rows, adapter) = ledger_rows::local_baseline(scheduled.number, own, has_test, self.executor)?;
            chunk.evaluations.extend(rows);
            if is_due {
                self.save_adapter(&format!("{place}/client-{}", own.client), &adapter)?;
            }
        }
        // What clients train alone was ordered after the last round, and belongs to it.
        let end = if is_last { self.executor.count() } else { planned.orders.end };
        chunk.lineage = ledger_rows::lineage(scheduled.number, planned.orders.start..end, self.executor);
        self.totals.add(&chunk);
        if is_due && !planned.counts_alike {
            self.save_adapter(&place, &model)?;
        }
        let loss = main_loss(&chunk.evaluations, "global").or_else(|| main_loss(&chunk.evaluations, "local"));
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

    /// Writes PEFT's files into `place` under the run's adapters.
    fn save_adapter(&self, place: &str, adapter: &Adapter) -> Result<(), RunError> {
        let model = &self.loaded.scenario.model;
        let hub = || model.hub.as_ref().map(|(repository, _)| repository.as_str().into());
        let base = model.folder.as_ref().and_then(|folder| folder.file_name()).map(|name| name.to_string_lossy());
        let base = base.or_else(hub);
        let folder = self.folder.join("adapters").join(place);
        let notes = peft::Notes { base_model: base.unwrap_or_default().into_owned(), ..peft::Notes::default() };
        Ok(peft::write_folder(&folder, adapter, &notes)?)
    }
}
