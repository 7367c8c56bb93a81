//! What was learnt: losses and preference metrics against rounds, virtual time and bytes.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;
use super::statistics::Groups;
use crate::ledger::EvaluationRow;
use crate::scenario::Algorithm;

/// The ways in which a run's course can be laid out.
pub const COURSE: [&str; 3] = ["round", "virtual_time_s", "moved_bytes"];

/// Losses on the two kinds of rows.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    pub test: Option<f64>,
    pub held_out: Option<f64>,
}

impl Losses {
    /// The loss that stands for both: on the test rows, where a run has any.
    pub fn main(&self, has_test: bool) -> Option<f64> {
        if has_test { self.test } else { self.held_out }
    }
}

/// The models of a run as they were measured after one round: the server's, or clients' own where there is none.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Round of the ledger, from 1; 0 is before any training.
    pub round: u32,
    pub model: Losses,
    /// Share of pairs ranked right, and their mean margin; of preference data.
    pub accuracy: Option<f64>,
    pub margin: Option<f64>,
    /// Loss on each client's own held-out rows, ascending by client; those that are not finite are left out.
    pub clients: Vec<(u32, f64)>,
}

/// All that was measured of losses.
pub struct Learning {
    pub points: Vec<Point>,
    /// Whether each client goes on from its own last adapter, so that there is no server model to measure.
    pub is_local: bool,
    pub has_test: bool,
    unit: &'static str,
    /// The mean client that trained alone.
    pub alone: Option<Losses>,
    /// Held-out loss of each client that trained alone.
    pub alone_clients: BTreeMap<u32, f64>,
}

impl Learning {
    /// Gathers the evaluations of a run.
    pub fn of(run: &RunRecord) -> Self {
        let of = |subject: &'static str| run.losses.iter().filter(move |row| row.subject == subject);
        let is_local = matches!(run.scenario.algorithm, Algorithm::Local);
        let course = of("global").chain(of("local").filter(|_| is_local));
        let mut by_round: BTreeMap<u32, Vec<&EvaluationRow>> = BTreeMap::new();
        course.for_each(|row| by_round.entry(row.round).or_default().push(row));
        let points = by_round.iter().map(|(&round, of_round)| point(round, of_round)).collect();
        let last_alone = of("local").map(|row| row.round).max().filter(|_| !is_local);
        let alone: Vec<&EvaluationRow> = of("local").filter(|row| Some(row.round) == last_alone).collect();
        let each_client_once = |_: &EvaluationRow| 1.0;
        let losses = Losses {
            test: weighted(&of_split(&alone, "test"), each_client_once),
            held_out: weighted(&of_split(&alone, "held_out"), each_client_once),
        };
        Self {
            points,
            is_local,
            has_test: run.losses.iter().any(|row| row.split == "test"),
            unit: run.loss_unit(),
            alone_clients: of_split(&alone, "held_out").into_iter().filter_map(client_loss).collect(),
            alone: (!alone.is_empty()).then_some(losses),
        }
    }

    /// The unit of losses.
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// The name of the loss that stands for the run.
    pub fn main_name(&self) -> &'static str {
        if self.has_test { "test loss" } else { "held-out loss" }
    }
}

fn point(round: u32, of_round: &[&EvaluationRow]) -> Point {
    let (test, held_out) = (of_split(of_round, "test"), of_split(of_round, "held_out"));
    let is_paired = |row: &EvaluationRow| row.reward_margin.is_some();
    let by_size = |row: &EvaluationRow| match row.subject.as_str() {
        "local" => 1.0,
        _ if is_paired(row) => row.rows as f64,
        _ => row.target_tokens as f64,
    };
    let ranked = if test.iter().any(|row| is_paired(row)) { &test } else { &held_out };
    let over_pairs = |metric: fn(&EvaluationRow) -> Option<f64>| {
        let pairs = ranked.iter().filter_map(|row| Some((metric(row)?, row.rows as f64)));
        let (sum, count) = pairs.fold((0.0, 0.0), |(sum, count), (value, pairs)| (sum + value * pairs, count + pairs));
        (count > 0.0).then(|| sum / count)
    };
    Point {
        round,
        model: Losses { test: weighted(&test, by_size), held_out: weighted(&held_out, by_size) },
        accuracy: over_pairs(|row| row.preference_accuracy),
        margin: over_pairs(|row| row.reward_margin),
        clients: held_out.into_iter().filter_map(client_loss).collect(),
    }
}

fn of_split<'a>(rows: &[&'a EvaluationRow], split: &str) -> Vec<&'a EvaluationRow> {
    rows.iter().copied().filter(|row| row.split == split).collect()
}

fn client_loss(row: &EvaluationRow) -> Option<(u32, f64)> {
    Some((row.client?, loss(row)?))
}

fn loss(row: &EvaluationRow) -> Option<f64> {
    row.loss.filter(|loss| loss.is_finite())
}

/// The mean loss of these rows; none if one of them has none, which must not read as a better mean.
fn weighted(rows: &[&EvaluationRow], weight: impl Fn(&EvaluationRow) -> f64) -> Option<f64> {
    let total: f64 = rows.iter().map(|row| weight(row)).sum();
    let sum: Option<f64> = rows.iter().map(|row| Some(loss(row)? * weight(row))).sum();
    sum.filter(|_| total > 0.0).map(|sum| sum / total)
}

/// Where a run stood after each of these rounds (0 is the start): round, virtual time and bytes moved.
pub fn course(run: &RunRecord, rounds: impl Iterator<Item = u32> + Clone) -> [Column; 3] {
    let mut moved = vec![0.0];
    for (down, up) in run.rounds.bytes_down.iter().flatten().zip(run.rounds.bytes_up.iter().flatten()) {
        moved.push(moved[moved.len() - 1] + down as f64 + up as f64);
    }
    let time = |round: u32| if round == 0 { 0.0 } else { run.closed_at_s(round as usize - 1) };
    [
        Column::counts("round", "round", "rounds", rounds.clone()),
        Column::numbers("virtual_time_s", "virtual time", "s", rounds.clone().map(time)),
        Column::numbers("moved_bytes", "bytes moved", "B", rounds.map(|round| moved[round as usize])),
    ]
}

/// The figures of what was learnt; none of a plan.
pub fn section(run: &RunRecord, learning: &Learning) -> Section {
    let mut figures: Vec<Figure> = losses(run, learning).into_iter().collect();
    figures.extend(preference(run, learning));
    Section { title: "What was learnt", figures }
}

fn losses(run: &RunRecord, learning: &Learning) -> Option<Figure> {
    let groups = Groups::of(run.rounds.counted.len());
    let kept: Vec<u32> = std::iter::once(0).chain(groups.last().map(|row| row as u32 + 1)).collect();
    let by_round: BTreeMap<u32, &Point> = learning.points.iter().map(|point| (point.round, point)).collect();
    let measured =
        |of: fn(&Point) -> Option<f64>| kept.iter().map(|round| by_round.get(round).and_then(|p| of(p))).collect();
    let test: Vec<Option<f64>> = measured(|point| point.model.test);
    let held_out: Vec<Option<f64>> = measured(|point| point.model.held_out);
    let train = kept.iter().map(|&round| {
        let row = (round as usize).checked_sub(1)?;
        run.rounds.train_loss.is_valid(row).then(|| run.rounds.train_loss.value(row))
    });
    let alone = learning.alone.as_ref().and_then(|alone| alone.main(learning.has_test));
    let mut columns = Vec::from(course(run, kept.iter().copied()));
    let unit = learning.unit();
    let drawn = [
        Column::numbers("test_loss", "test loss", unit, test),
        Column::numbers("held_out_loss", "held-out loss, all clients", unit, held_out),
        Column::numbers("train_loss", "training loss of counted updates", unit, train),
        Column::numbers("alone_loss", "mean client trained alone", unit, kept.iter().map(|_| alone)),
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
        draw: Draw::Lines { x: COURSE.to_vec(), y, split: None, band: None },
        columns,
        notes: groups.note("losses are those after the last round of each").into_iter().collect(),
    })
}

fn preference(run: &RunRecord, learning: &Learning) -> Vec<Figure> {
    let scored = || learning.points.iter().filter(|point| point.accuracy.is_some());
    if scored().next().is_none() {
        return vec![];
    }
    let figure = |id, title: &str, caption: &str, metric: Column| {
        let y = vec![metric.name];
        let mut columns = Vec::from(course(run, scored().map(|point| point.round)));
        columns.push(metric);
        let draw = Draw::Lines { x: COURSE.to_vec(), y, split: None, band: None };
        Figure { id, title: title.into(), caption: caption.into(), draw, columns, notes: vec![] }
    };
    let accuracy = scored().map(|point| point.accuracy);
    let margin = scored().map(|point| point.margin);
    vec![
        figure(
            "preference",
            "Pairs ranked right",
            "Share of pairs whose chosen answer has the higher reward (`evaluations.preference_accuracy`).",
            Column::numbers("preference_accuracy", "pairs ranked right", "share", accuracy),
        ),
        figure(
            "margin",
            "Reward margin",
            "Mean of the chosen answers' rewards less the rejected ones' (`evaluations.reward_margin`).",
            Column::numbers("reward_margin", "reward margin", "1", margin),
        ),
    ]
}
