//! Curves of a run: one value per round, at the round's end in virtual time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::summary::main_loss;
use crate::ledger::{EvalSubject, EvaluationRow, LedgerError, RunTables, Split, TableView};

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
pub(super) fn series(
    rounds: &TableView,
    tasks: &TableView,
    evaluations: &[EvaluationRow],
) -> Result<Vec<Series>, LedgerError> {
    let clock = Clock { closed_at_ns: rounds.counts("closed_at_ns")? };
    let mut all = losses(evaluations, &clock);
    all.extend(scores(evaluations, &clock));
    for (name, unit, column) in [
        ("loss/train", "nats/token", "train_loss"),
        ("update/norm", "1", "update_norm"),
        ("privacy/epsilon", "1", "epsilon_spent"),
        ("tasks/counted", "tasks", "counted"),
        ("tasks/late", "tasks", "late"),
        ("tasks/dropped", "tasks", "dropped"),
        ("tasks/cancelled", "tasks", "cancelled"),
    ] {
        all.push(clock.series(name, unit, rounds.numbers(column)?));
    }
    all.push(clock.series("round/seconds", "s", durations(rounds)?));
    for (name, column) in [("traffic/down", "bytes_down"), ("traffic/up", "bytes_up")] {
        all.push(clock.series(name, "B", summed(rounds.counts(column)?)));
    }
    let energy = per_round(rounds, tasks, "energy_mj", |values| values.iter().map(|&mj| mj as f64 / 1000.0).sum())?;
    all.push(clock.series("energy/spent", "J", energy));
    let staleness =
        per_round(rounds, tasks, "staleness", |values| values.iter().sum::<u64>() as f64 / values.len() as f64)?;
    all.push(clock.series("update/staleness", "versions", staleness));
    all.retain(|series| !series.points.is_empty());
    Ok(all)
}

/// Returns the main curve of a run: the server's loss on the test rows, else on held-out rows, else that of the clients' own
/// models. `None` if nothing was evaluated.
///
/// # Errors
/// If the tables cannot be read.
pub fn main_curve(tables: &RunTables) -> Result<Option<Series>, LedgerError> {
    let clock = Clock { closed_at_ns: tables.rounds().counts("closed_at_ns")? };
    Ok(losses(&tables.evaluations()?, &clock).into_iter().find(|series| !series.points.is_empty()))
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
    fn series(&self, name: &str, unit: &'static str, values: Vec<Option<f64>>) -> Series {
        let points = values.into_iter().zip(1..).filter_map(|(value, round)| self.point(round, value?)).collect();
        Series { name: name.into(), unit, points }
    }
}

/// Returns the curves of losses: of the server model, and of the clients' own models.
fn losses(evaluations: &[EvaluationRow], clock: &Clock) -> Vec<Series> {
    let is_pairs = evaluations.iter().any(|row| row.reward_margin.is_some());
    let unit = if is_pairs { "nats/pair" } else { "nats/token" };
    let mut all = Vec::new();
    for (subject, split, name) in [
        (EvalSubject::Global, Split::Test, "loss/test"),
        (EvalSubject::Global, Split::HeldOut, "loss/held_out"),
        (EvalSubject::Local, Split::Test, "loss/alone_test"),
        (EvalSubject::Local, Split::HeldOut, "loss/alone_held_out"),
    ] {
        let rows = evaluations.iter().filter(|row| row.subject == subject && row.split == split);
        let rows: Vec<EvaluationRow> = rows.cloned().collect();
        // Rows are in the order of rounds, so those of one round are adjacent.
        let by_round = rows.chunk_by(|a, b| a.round == b.round);
        let points = by_round.filter_map(|rows| clock.point(rows[0].round, main_loss(rows, subject)?)).collect();
        all.push(Series { name: name.into(), unit, points });
    }
    all
}

/// Returns the curve of the server model's score on each benchmark.
fn scores(evaluations: &[EvaluationRow], clock: &Clock) -> Vec<Series> {
    let mut points: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for row in evaluations.iter().filter(|row| row.subject == EvalSubject::Global && row.split == Split::Whole) {
        let point = row.score.and_then(|score| clock.point(row.round, score));
        points.entry(&row.benchmark).or_default().extend(point);
    }
    points.into_iter().map(|(name, points)| Series { name: format!("score/{name}"), unit: "1", points }).collect()
}

/// [s] -- Returns the duration of each round in virtual time.
fn durations(rounds: &TableView) -> Result<Vec<Option<f64>>, LedgerError> {
    let opened = rounds.counts("opened_at_ns")?;
    let closed = rounds.counts("closed_at_ns")?;
    let durations = opened.into_iter().zip(closed);
    Ok(durations.map(|(opened, closed)| Some(closed.saturating_sub(opened) as f64 / 1e9)).collect())
}

/// Returns the running sums of values.
fn summed(values: Vec<u64>) -> Vec<Option<f64>> {
    let mut sum = 0u64;
    let mut sums = Vec::with_capacity(values.len());
    for value in values {
        sum = sum.saturating_add(value);
        sums.push(Some(sum as f64));
    }
    sums
}

/// Computes a figure per round from the values of its tasks in a column; `None` if no task of the round has a value.
fn per_round(
    rounds: &TableView,
    tasks: &TableView,
    column: &str,
    figure: impl Fn(&[u64]) -> f64,
) -> Result<Vec<Option<f64>>, LedgerError> {
    // Tasks are in the order of the rounds, and each round states how many of them it added.
    let values = tasks.counts_or_none(column)?;
    let mut rest = values.as_slice();
    let mut figures = Vec::with_capacity(rounds.len());
    for count in rounds.counts("task_rows")? {
        let (own, others) = rest.split_at((count as usize).min(rest.len()));
        rest = others;
        let own: Vec<u64> = own.iter().copied().flatten().collect();
        figures.push(if own.is_empty() { None } else { Some(figure(&own)) });
    }
    Ok(figures)
}
