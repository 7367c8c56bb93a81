//! Curves of a run: one value per round, at the round's end in virtual time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::costs::RoundCosts;
use super::losses::{Learning, loss_unit, split_losses};
use super::record::{RunRecord, span_ns};
use super::statistics::{mean, quantile, sorted};
use crate::ledger::{EvalSubject, EvaluationRow, LedgerError, RunTables, Split};

/// Point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Round of all aggregators, from 1; 0 is before any training.
    pub round: u32,
    /// [ns] -- Virtual time at the round's end.
    pub at_ns: u64,
    pub value: f64,
}

/// Curve of a quantity over the rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Name with a slash between kind and quantity, such as `loss/test`.
    pub name: String,
    pub unit: &'static str,
    pub points: Vec<Point>,
}

/// Returns the curves of a run that have at least one value.
pub(super) fn series(run: &RunRecord) -> Vec<Series> {
    let rounds = &run.rounds;
    let clock = Clock { closed_at_ns: rounds.closed_at_ns.iter().flatten().map(|at| span_ns(0, at)).collect() };
    let count = clock.closed_at_ns.len();
    let mut all = losses(&run.losses, &clock);
    all.extend(scores(&run.benchmarks, &clock));
    all.push(clock.series("loss/train", run.loss_unit(), rounds.train_loss.iter()));
    all.push(clock.series("update/norm", "1", rounds.update_norm.iter()));
    all.push(clock.series("update/aggregation_error", "1", rounds.aggregation_error.iter().copied()));
    all.push(clock.series("update/kept_rank", "components", rounds.kept_rank.iter().copied()));
    all.push(clock.series("update/rank", "components", (0..count).map(|round| mean(&ranks(run, round)))));
    all.push(clock.series("privacy/epsilon", "1", rounds.epsilon_spent.iter()));
    for (name, tasks) in [
        ("tasks/counted", &rounds.counted),
        ("tasks/late", &rounds.late),
        ("tasks/dropped", &rounds.dropped),
        ("tasks/cancelled", &rounds.cancelled),
    ] {
        all.push(clock.series(name, "tasks", tasks.iter().map(|tasks| tasks.map(f64::from))));
    }
    all.push(clock.series("round/seconds", "s", (0..count).map(|round| Some(run.round_seconds(round)))));
    for (name, bytes) in [("traffic/down_total", &rounds.bytes_down), ("traffic/up_total", &rounds.bytes_up)] {
        all.push(clock.series(name, "B", summed(bytes.iter().flatten()).into_iter()));
    }
    let has_tasks = |round: &usize| !run.round_tasks[*round].is_empty();
    let costs = RoundCosts::of(run);
    let energy = (0..count).map(|round| Some(round).filter(has_tasks).map(|round| costs[round].joules));
    all.push(clock.series("energy/spent_per_round", "J", energy));
    let carbon = rounds.carbon_ug.iter().map(|ug| ug.map(|ug| ug as f64 / 1e6));
    all.push(clock.series("carbon/emitted_per_round", "g", carbon));
    all.push(clock.series("update/staleness", "versions", (0..count).map(|round| mean_staleness(run, round))));
    all.retain(|series| !series.points.is_empty());
    all
}

/// Returns the main curve of a run: the server's loss on the test rows, else on held-out rows; of the clients' own models if
/// there is no server model. `None` if nothing was evaluated.
///
/// # Errors
/// If the tables cannot be read.
pub fn main_curve(tables: &RunTables) -> Result<Option<Series>, LedgerError> {
    let clock = Clock { closed_at_ns: tables.rounds().counts("closed_at_ns")? };
    let learning = Learning::of(&tables.evaluations()?);
    let points: Vec<Point> = learning.main_losses().filter_map(|(round, loss)| clock.point(round, loss)).collect();
    let name = if learning.has_test { "loss/test" } else { "loss/held_out" };
    Ok((!points.is_empty()).then(|| Series { name: name.into(), unit: learning.unit(), points }))
}

/// Ends of the rounds in virtual time.
struct Clock {
    closed_at_ns: Vec<u64>,
}

impl Clock {
    fn at(&self, round: u32) -> u64 {
        (round as usize).checked_sub(1).and_then(|index| self.closed_at_ns.get(index)).copied().unwrap_or(0)
    }

    fn point(&self, round: u32, value: f64) -> Option<Point> {
        value.is_finite().then(|| Point { round, at_ns: self.at(round), value })
    }

    /// Returns the curve of one value per round, from the first.
    fn series(&self, name: &str, unit: &'static str, values: impl Iterator<Item = Option<f64>>) -> Series {
        let points = values.zip(1..).filter_map(|(value, round)| self.point(round, value?)).collect();
        Series { name: name.into(), unit, points }
    }
}

/// Returns the curves of losses: of the server model, of the clients' own models, and of clients alone.
fn losses(evaluations: &[EvaluationRow], clock: &Clock) -> Vec<Series> {
    let unit = loss_unit(evaluations);
    let mut all = Vec::new();
    for (subject, names) in [
        (EvalSubject::Global, ["loss/test", "loss/held_out"]),
        (EvalSubject::Personal, ["loss/personal_test", "loss/personal_held_out"]),
        (EvalSubject::Local, ["loss/alone_test", "loss/alone_held_out"]),
        (EvalSubject::FineTuned, ["loss/fine_tuned_test", "loss/fine_tuned_held_out"]),
    ] {
        let mut test = Vec::new();
        let mut held_out = Vec::new();
        for (round, losses) in split_losses(evaluations, subject) {
            test.extend(losses.test.and_then(|loss| clock.point(round, loss)));
            held_out.extend(losses.held_out.and_then(|loss| clock.point(round, loss)));
        }
        let [test_name, held_out_name] = names;
        all.push(Series { name: test_name.into(), unit, points: test });
        all.push(Series { name: held_out_name.into(), unit, points: held_out });
    }
    all
}

/// Returns the curve of the server model's score on each benchmark.
fn scores(benchmarks: &[EvaluationRow], clock: &Clock) -> Vec<Series> {
    let mut points: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for row in benchmarks.iter().filter(|row| row.subject == EvalSubject::Global && row.split == Split::Whole) {
        let point = row.score.and_then(|score| clock.point(row.round, score));
        points.entry(&row.benchmark).or_default().extend(point);
    }
    points.into_iter().map(|(name, points)| Series { name: format!("score/{name}"), unit: "1", points }).collect()
}

/// Returns the running sums of values.
fn summed(values: impl Iterator<Item = u64>) -> Vec<Option<f64>> {
    let mut sum = 0u64;
    let mut sums = Vec::new();
    for value in values {
        sum = sum.saturating_add(value);
        sums.push(Some(sum as f64));
    }
    sums
}

/// [versions] -- Returns the mean staleness of the updates that a round recorded as counted; `None` if there are none.
fn mean_staleness(run: &RunRecord, round: usize) -> Option<f64> {
    let range = run.round_tasks[round].clone();
    let of_round = run.tasks.staleness.slice(range.start, range.len());
    let values: Vec<f64> = of_round.iter().flatten().map(f64::from).collect();
    mean(&values)
}

/// [components] -- Returns the ranks that clients have after the tasks that a round recorded as counted, in ascending order; none unless
/// clients prune their ranks.
pub fn ranks(run: &RunRecord, round: usize) -> Vec<f64> {
    sorted(run.tasks.rank_after[run.round_tasks[round].clone()].iter().copied().flatten())
}

/// Errors of one round over the modules.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleErrors {
    pub median: f64,
    pub largest: f64,
    /// Path of the module with the largest error, the first of several.
    pub module: String,
}

/// Returns the errors of each round; `None` of rounds without them.
///
/// # Errors
/// If the tables cannot be read.
pub fn module_errors(tables: &RunTables) -> Result<Vec<Option<ModuleErrors>>, LedgerError> {
    let mut rounds = vec![None; tables.rounds().len()];
    tables.visit_aggregation(|round, rows| {
        let mut largest: Option<(f64, &str)> = None;
        for row in rows {
            if let Some(error) = row.error
                && largest.is_none_or(|(before, _)| error > before)
            {
                largest = Some((error, &row.module));
            }
        }
        let errors = sorted(rows.iter().filter_map(|row| row.error));
        if let (Some((largest, module)), Some(median)) = (largest, quantile(&errors, 0.5)) {
            rounds[round] = Some(ModuleErrors { median, largest, module: module.to_owned() });
        }
    })?;
    Ok(rounds)
}
