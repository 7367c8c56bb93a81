//! Curves of a run: one value a round, at the round's place in virtual time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::summary::main_loss;
use crate::ledger::{EvaluationRow, LedgerError, RunTables, TableView};

/// A value of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Round of all aggregators, from 1; 0 is before any training.
    pub round: u32,
    /// [ns] Virtual time at the round's end.
    pub at_ns: u64,
    pub value: f64,
}

/// A curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// A name with a slash between kind and quantity, such as `loss/test`.
    pub name: String,
    pub unit: &'static str,
    pub points: Vec<Point>,
}

/// The curves of a run; those without a value are left out.
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
    let mean = |values: &[u64]| values.iter().sum::<u64>() as f64 / values.len() as f64;
    all.push(clock.series("update/staleness", "versions", per_round(rounds, tasks, "staleness", mean)?));
    all.retain(|series| !series.points.is_empty());
    Ok(all)
}

/// The curve that stands for a run's model: the server's loss on the test rows, else on held-out rows, else that of clients on
/// their own. None where nothing was evaluated.
///
/// # Errors
/// If the tables cannot be read.
pub fn main_curve(tables: &RunTables) -> Result<Option<Series>, LedgerError> {
    let clock = Clock { closed_at_ns: tables.rounds().counts("closed_at_ns")? };
    Ok(losses(&tables.evaluations()?, &clock).into_iter().find(|series| !series.points.is_empty()))
}

/// When rounds ended.
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

    /// One value a round, from the first.
    fn series(&self, name: &str, unit: &'static str, values: Vec<Option<f64>>) -> Series {
        let points = values.into_iter().zip(1..).filter_map(|(value, round)| self.point(round, value?)).collect();
        Series { name: name.into(), unit, points }
    }
}

/// Losses of the server model, or of clients on their own, whenever they were evaluated.
fn losses(evaluations: &[EvaluationRow], clock: &Clock) -> Vec<Series> {
    let is_pairs = evaluations.iter().any(|row| row.reward_margin.is_some());
    let unit = if is_pairs { "nats/pair" } else { "nats/token" };
    let mut all = Vec::new();
    for (subject, split, name) in [
        ("global", "test", "loss/test"),
        ("global", "held_out", "loss/held_out"),
        ("local", "test", "loss/alone_test"),
        ("local", "held_out", "loss/alone_held_out"),
    ] {
        let rows = evaluations.iter().filter(|row| row.subject == subject && row.split == split);
        let rows: Vec<EvaluationRow> = rows.cloned().collect();
        let by_round = rows.chunk_by(|a, b| a.round == b.round);
        let points = by_round.filter_map(|rows| clock.point(rows[0].round, main_loss(rows, subject)?)).collect();
        all.push(Series { name: name.into(), unit, points });
    }
    all
}

/// The server model's figures of each benchmark.
fn scores(evaluations: &[EvaluationRow], clock: &Clock) -> Vec<Series> {
    let mut points: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for row in evaluations.iter().filter(|row| row.subject == "global" && row.split == "all") {
        let point = row.score.and_then(|score| clock.point(row.round, score));
        points.entry(&row.benchmark).or_default().extend(point);
    }
    points.into_iter().map(|(name, points)| Series { name: format!("score/{name}"), unit: "1", points }).collect()
}

fn durations(rounds: &TableView) -> Result<Vec<Option<f64>>, LedgerError> {
    let (opened, closed) = (rounds.counts("opened_at_ns")?, rounds.counts("closed_at_ns")?);
    let seconds = |(opened, closed): (u64, u64)| Some(closed.saturating_sub(opened) as f64 / 1e9);
    Ok(opened.into_iter().zip(closed).map(seconds).collect())
}

fn summed(values: Vec<u64>) -> Vec<Option<f64>> {
    let mut sum = 0u64;
    let add = |value| {
        sum = sum.saturating_add(value);
        Some(sum as f64)
    };
    values.into_iter().map(add).collect()
}

/// A figure of the values that a round's tasks have in a column; none where no task has one.
fn per_round(
    rounds: &TableView,
    tasks: &TableView,
    column: &str,
    figure: impl Fn(&[u64]) -> f64,
) -> Result<Vec<Option<f64>>, LedgerError> {
    let values = tasks.counts_or_none(column)?;
    let mut rest = values.as_slice();
    let mut next = |count: u64| {
        let (mine, others) = rest.split_at((count as usize).min(rest.len()));
        rest = others;
        let mine: Vec<u64> = mine.iter().copied().flatten().collect();
        (!mine.is_empty()).then(|| figure(&mine))
    };
    Ok(rounds.counts("task_rows")?.into_iter().map(&mut next).collect())
}
