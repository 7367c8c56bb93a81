//! What was learnt: losses and preference metrics against rounds, virtual time and bytes.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;
use super::statistics::Groups;

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

/// The server model as it was measured after one round.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Round of the ledger, from 1; 0 is before any training.
    pub round: u32,
    pub global: Losses,
    /// Share of pairs ranked right, and their mean margin; of preference data.
    pub accuracy: Option<f64>,
    pub margin: Option<f64>,
    /// Loss on each client's own held-out rows, ascending by client; those that are not finite are left out.
    pub clients: Vec<(u32, f64)>,
}

/// All that was measured of losses.
pub struct Learning {
    pub points: Vec<Point>,
    pub has_test: bool,
    /// Of preference data: losses are a pair's, not a token's.
    pub of_pairs: bool,
    /// The mean client that trained alone.
    pub alone: Option<Losses>,
    /// Held-out loss of each client that trained alone.
    pub alone_clients: BTreeMap<u32, f64>,
}

impl Learning {
    /// Gathers the evaluations of a run.
    pub fn of(run: &RunRecord) -> Self {
        let rows = &run.evaluations;
        let of = |subject: &'static str| (0..rows.round.len()).filter(move |&row| rows.subject.value(row) == subject);
        let mut by_round: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        of("global").for_each(|row| by_round.entry(rows.round.value(row)).or_default().push(row));
        let points = by_round.iter().map(|(&round, of_round)| point(run, round, of_round)).collect();
        let last_alone = of("local").map(|row| rows.round.value(row)).max();
        let alone: Vec<usize> = of("local").filter(|&row| Some(rows.round.value(row)) == last_alone).collect();
        let split =
            |split: &str| alone.iter().copied().filter(|&row| rows.split.value(row) == split).collect::<Vec<_>>();
        let each_client_once = |_: usize| 1.0;
        let losses = Losses {
            test: weighted(run, &split("test"), each_client_once),
            held_out: weighted(run, &split("held_out"), each_client_once),
        };
        let client = |row: usize| Some((rows.client.is_valid(row).then(|| rows.client.value(row))?, loss(run, row)?));
        Self {
            points,
            has_test: rows.split.iter().flatten().any(|split| split == "test"),
            of_pairs: rows.preference_accuracy.null_count() < rows.preference_accuracy.len(),
            alone_clients: split("held_out").into_iter().filter_map(client).collect(),
            alone: (!alone.is_empty()).then_some(losses),
        }
    }

    /// The unit of losses.
    pub fn unit(&self) -> &'static str {
        if self.of_pairs { "nats/pair" } else { "nats/token" }
    }

    /// The name of the loss that stands for the run.
    pub fn main_name(&self) -> &'static str {
        if self.has_test { "test loss" } else { "held-out loss" }
    }
}

fn point(run: &RunRecord, round: u32, of_round: &[usize]) -> Point {
    let rows = &run.evaluations;
    let split =
        |split: &str| of_round.iter().copied().filter(|&row| rows.split.value(row) == split).collect::<Vec<_>>();
    let (test, held_out) = (split("test"), split("held_out"));
    let is_paired = |row: usize| rows.reward_margin.is_valid(row);
    let by_size = |row: usize| match is_paired(row) {
        true => rows.rows.value(row) as f64,
        false => rows.target_tokens.value(row) as f64,
    };
    let client = |row: usize| Some((rows.client.is_valid(row).then(|| rows.client.value(row))?, loss(run, row)?));
    let ranked = if test.iter().any(|&row| is_paired(row)) { &test } else { &held_out };
    let over_pairs = |column: &arrow::array::Float64Array| {
        let pairs = ranked.iter().copied().filter(|&row| column.is_valid(row));
        let (sum, count) = pairs.fold((0.0, 0.0), |(sum, count), row| {
            let pairs = rows.rows.value(row) as f64;
            (sum + column.value(row) * pairs, count + pairs)
        });
        (count > 0.0).then(|| sum / count)
    };
    Point {
        round,
        global: Losses { test: weighted(run, &test, by_size), held_out: weighted(run, &held_out, by_size) },
        accuracy: over_pairs(&rows.preference_accuracy),
        margin: over_pairs(&rows.reward_margin),
        clients: held_out.into_iter().filter_map(client).collect(),
    }
}

fn loss(run: &RunRecord, row: usize) -> Option<f64> {
    let losses = &run.evaluations.loss;
    losses.is_valid(row).then(|| losses.value(row)).filter(|loss| loss.is_finite())
}

/// The mean loss of these rows; none if one of them has none, which must not read as a better mean.
fn weighted(run: &RunRecord, rows: &[usize], weight: impl Fn(usize) -> f64) -> Option<f64> {
    let total: f64 = rows.iter().map(|&row| weight(row)).sum();
    let sum: Option<f64> = rows.iter().map(|&row| Some(loss(run, row)? * weight(row))).sum();
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
    let test: Vec<Option<f64>> = measured(|point| point.global.test);
    let held_out: Vec<Option<f64>> = measured(|point| point.global.held_out);
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
        caption:
            "Lower is better. The server model on the test rows and on all clients' held-out rows (`evaluations`), \
                  beside the weighted training loss of the updates that counted (`rounds.train_loss`)."
                .into(),
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
