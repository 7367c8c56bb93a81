//! Learning curves: losses and preference metrics against rounds, virtual time and bytes.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;
use super::statistics::Groups;
use crate::ledger::{EvalSubject, EvaluationRow, Split};
use crate::scenario::Algorithm;

/// Names of the columns that can be the horizontal axis of a curve.
pub const AXES: [&str; 3] = ["round", "virtual_time_s", "moved_bytes"];

/// Losses on the two kinds of rows.
#[derive(Clone, Debug, Default)]
pub struct LossCurves {
    pub test: Option<f64>,
    pub held_out: Option<f64>,
}

impl LossCurves {
    /// Returns the main loss: that on the test rows, if the run has any, or else that on held-out rows.
    pub fn main(&self, has_test: bool) -> Option<f64> {
        if has_test { self.test } else { self.held_out }
    }
}

/// Measurements after one round, of the server model or, if there is none, of the clients' own models.
#[derive(Clone, Debug, Default)]
pub struct CurvePoint {
    /// Round of the ledger, from 1; 0 is before any training.
    pub round: u32,
    pub model: LossCurves,
    /// Share of preference pairs that are ranked correctly; `None` for other data.
    pub accuracy: Option<f64>,
    /// Mean reward margin of preference pairs; `None` for other data.
    pub margin: Option<f64>,
    /// Finite losses on the clients' own held-out rows, with the clients' numbers in ascending order.
    pub clients: Vec<(u32, f64)>,
}

/// All losses that a run measured.
pub struct Learning {
    pub points: Vec<CurvePoint>,
    /// Whether each client continues from its own last adapter, so that there is no server model to measure.
    pub is_local: bool,
    pub has_test: bool,
    unit: &'static str,
    /// Mean losses of the baseline in which clients train alone.
    pub alone: Option<LossCurves>,
    /// Held-out loss of each client of that baseline.
    pub alone_clients: BTreeMap<u32, f64>,
}

impl Learning {
    /// Collects the evaluations of a run.
    pub fn of(run: &RunRecord) -> Self {
        let is_local = matches!(run.scenario.algorithm, Algorithm::Local);
        let mut by_round: BTreeMap<u32, Vec<&EvaluationRow>> = BTreeMap::new();
        for row in of_subject(run, EvalSubject::Global) {
            by_round.entry(row.round).or_default().push(row);
        }
        // Rows of clients alone are the run itself if the method is `Local`, and a baseline under any other method.
        let mut alone: Vec<&EvaluationRow> = Vec::new();
        if is_local {
            for row in of_subject(run, EvalSubject::Local) {
                by_round.entry(row.round).or_default().push(row);
            }
        } else {
            let last = of_subject(run, EvalSubject::Local).map(|row| row.round).max();
            alone.extend(of_subject(run, EvalSubject::Local).filter(|row| Some(row.round) == last));
        }
        let points = by_round.iter().map(|(&round, of_round)| point(round, of_round)).collect();
        // Every client counts once, whatever its number of rows.
        let losses = LossCurves {
            test: weighted(&of_split(&alone, &Split::Test), |_| 1.0),
            held_out: weighted(&of_split(&alone, &Split::HeldOut), |_| 1.0),
        };
        Self {
            points,
            is_local,
            has_test: run.losses.iter().any(|row| row.split == Split::Test),
            unit: run.loss_unit(),
            alone_clients: of_split(&alone, &Split::HeldOut).into_iter().filter_map(client_loss).collect(),
            alone: (!alone.is_empty()).then_some(losses),
        }
    }

    /// Returns the unit of losses.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// Returns the name of the main loss.
    pub fn main_name(&self) -> &'static str {
        if self.has_test { "test loss" } else { "held-out loss" }
    }
}

/// Returns the losses of one subject.
fn of_subject<'a>(run: &'a RunRecord, subject: EvalSubject) -> impl Iterator<Item = &'a EvaluationRow> {
    run.losses.iter().filter(move |row| row.subject == subject)
}

/// Summarizes the evaluations after one round.
fn point(round: u32, of_round: &[&EvaluationRow]) -> CurvePoint {
    let test = of_split(of_round, &Split::Test);
    let held_out = of_split(of_round, &Split::HeldOut);
    let ranked = if test.iter().any(|row| row.reward_margin.is_some()) { &test } else { &held_out };
    CurvePoint {
        round,
        model: LossCurves { test: weighted(&test, size), held_out: weighted(&held_out, size) },
        accuracy: mean_over_pairs(ranked, |row| row.preference_accuracy),
        margin: mean_over_pairs(ranked, |row| row.reward_margin),
        clients: held_out.into_iter().filter_map(client_loss).collect(),
    }
}

/// Returns the weight of a row in a mean loss: its pairs or target tokens, or 1 for a client's own model.
fn size(row: &EvaluationRow) -> f64 {
    match row.subject {
        EvalSubject::Local => 1.0,
        _ if row.reward_margin.is_some() => row.rows as f64,
        _ => row.target_tokens as f64,
    }
}

/// Returns the mean of a metric over all pairs of preference data. `None` if there are none.
fn mean_over_pairs(rows: &[&EvaluationRow], metric: fn(&EvaluationRow) -> Option<f64>) -> Option<f64> {
    let mut sum = 0.0;
    let mut count = 0.0;
    for row in rows {
        if let Some(value) = metric(row) {
            let pairs = row.rows as f64;
            sum += value * pairs;
            count += pairs;
        }
    }
    (count > 0.0).then(|| sum / count)
}

/// Returns the rows of one split.
fn of_split<'a>(rows: &[&'a EvaluationRow], split: &Split) -> Vec<&'a EvaluationRow> {
    rows.iter().copied().filter(|row| row.split == *split).collect()
}

/// Returns the client of a row with its loss. `None` if the row is not of one client, or its loss is not finite.
fn client_loss(row: &EvaluationRow) -> Option<(u32, f64)> {
    Some((row.client?, loss(row)?))
}

/// Returns the loss of a row if it is finite.
fn loss(row: &EvaluationRow) -> Option<f64> {
    row.loss.filter(|loss| loss.is_finite())
}

/// Returns the weighted mean loss of rows. `None` if one of them has none: leaving it out would make the mean look
/// better.
fn weighted(rows: &[&EvaluationRow], weight: impl Fn(&EvaluationRow) -> f64) -> Option<f64> {
    let total: f64 = rows.iter().map(|row| weight(row)).sum();
    // The sum of options is `None` as soon as one of them is.
    let sum: Option<f64> = rows.iter().map(|row| Some(loss(row)? * weight(row))).sum();
    sum.filter(|_| total > 0.0).map(|sum| sum / total)
}

/// Returns the columns of [`AXES`] for these rounds; round 0 is the start.
pub fn axes(run: &RunRecord, rounds: impl Iterator<Item = u32> + Clone) -> [Column; 3] {
    // `moved[n]` is the total after round n.
    let mut moved = vec![0.0];
    for (down, up) in run.rounds.bytes_down.iter().flatten().zip(run.rounds.bytes_up.iter().flatten()) {
        moved.push(moved[moved.len() - 1] + down as f64 + up as f64);
    }
    let times = rounds.clone().map(|round| if round == 0 { 0.0 } else { run.closed_at_s(round as usize - 1) });
    [
        Column::counts("round", "round", "rounds", rounds.clone()),
        Column::numbers("virtual_time_s", "virtual time", "s", times),
        Column::numbers("moved_bytes", "bytes moved", "B", rounds.map(|round| moved[round as usize])),
    ]
}

/// Returns the learning curves; a plan has none.
pub fn section(run: &RunRecord, learning: &Learning) -> Section {
    let mut figures: Vec<Figure> = losses(run, learning).into_iter().collect();
    figures.extend(preference(run, learning));
    Section { title: "What was learnt", figures }
}

/// Returns the chart of losses. `None` if there are none.
fn losses(run: &RunRecord, learning: &Learning) -> Option<Figure> {
    let groups = Groups::of(run.rounds.counted.len());
    // The start, and the last round of each group.
    let rounds: Vec<u32> = std::iter::once(0).chain(groups.last().map(|row| row as u32 + 1)).collect();
    let by_round: BTreeMap<u32, &CurvePoint> = learning.points.iter().map(|point| (point.round, point)).collect();
    let train_losses = &run.rounds.train_loss;
    let mut test = Vec::new();
    let mut held_out = Vec::new();
    let mut train = Vec::new();
    for &round in &rounds {
        let model = by_round.get(&round).map(|point| &point.model);
        test.push(model.and_then(|model| model.test));
        held_out.push(model.and_then(|model| model.held_out));
        // Row r of the table is round r + 1; nothing was trained before round 1.
        let row = (round as usize).checked_sub(1).filter(|&row| train_losses.is_valid(row));
        train.push(row.map(|row| train_losses.value(row)));
    }
    let alone = learning.alone.as_ref().and_then(|alone| alone.main(learning.has_test));
    let mut columns = Vec::from(axes(run, rounds.iter().copied()));
    let unit = learning.unit();
    let drawn = [
        Column::numbers("test_loss", "test loss", unit, test),
        Column::numbers("held_out_loss", "held-out loss, all clients", unit, held_out),
        Column::numbers("train_loss", "training loss of counted updates", unit, train),
        Column::numbers("alone_loss", "mean client trained alone", unit, rounds.iter().map(|_| alone)),
    ];
    let drawn: Vec<Column> = drawn.into_iter().filter(|column| !column.is_blank()).collect();
    if drawn.is_empty() {
        return None;
    }
    let y = drawn.iter().map(|column| column.name).collect();
    columns.extend(drawn);
    Some(Figure {
        id: "loss",
        title: "Loss".into(),
        caption: format!(
            "Lower is better. {} on the test rows and on all clients' held-out rows (`evaluations`), beside the weighted \
             training loss of the updates that counted (`rounds.train_loss`).",
            if learning.is_local { "Clients' own models, each client counting once," } else { "The server model" }
        ),
        draw: Draw::Lines { x: AXES.to_vec(), y, split: None, band: None },
        columns,
        notes: groups.note("losses are those after the last round of each").into_iter().collect(),
    })
}

/// Returns the charts of preference metrics; other data has none.
fn preference(run: &RunRecord, learning: &Learning) -> Vec<Figure> {
    let scored: Vec<&CurvePoint> = learning.points.iter().filter(|point| point.accuracy.is_some()).collect();
    if scored.is_empty() {
        return vec![];
    }
    let axes = axes(run, scored.iter().map(|point| point.round));
    let accuracy = scored.iter().map(|point| point.accuracy);
    let margin = scored.iter().map(|point| point.margin);
    vec![
        metric_figure(
            "preference",
            "Pairs ranked right",
            "Share of pairs whose chosen answer has the higher reward (`evaluations.preference_accuracy`).",
            axes.clone(),
            Column::numbers("preference_accuracy", "pairs ranked right", "share", accuracy),
        ),
        metric_figure(
            "margin",
            "Reward margin",
            "Mean of the chosen answers' rewards less the rejected ones' (`evaluations.reward_margin`).",
            axes,
            Column::numbers("reward_margin", "reward margin", "1", margin),
        ),
    ]
}

/// Returns the chart of one metric over a run.
fn metric_figure(id: &'static str, title: &str, caption: &str, axes: [Column; 3], metric: Column) -> Figure {
    let draw = Draw::Lines { x: AXES.to_vec(), y: vec![metric.name], split: None, band: None };
    let mut columns = Vec::from(axes);
    columns.push(metric);
    Figure { id, title: title.into(), caption: caption.into(), draw, columns, notes: vec![] }
}
