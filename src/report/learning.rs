//! Learning curves: losses and preference metrics against rounds, virtual time and bytes.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::figure::{Column, Draw, Figure, Section};
use super::grouping::Groups;
use crate::results::{CurvePoint, Learning, RunRecord};

/// Names of the columns that can be the horizontal axis of a curve.
pub const AXES: [&str; 3] = ["round", "virtual_time_s", "moved_bytes"];

/// Names the main loss.
pub fn main_name(learning: &Learning) -> &'static str {
    if learning.has_test { "test loss" } else { "held-out loss" }
}

/// Returns the columns of [`AXES`] for these rounds; round 0 is the start.
pub fn axes(run: &RunRecord, rounds: impl Iterator<Item = u32> + Clone) -> [Column; 3] {
    let moved = run.moved_bytes();
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

/// Names the mean of held-out losses by its weights.
fn held_out_title(learning: &Learning) -> &'static str {
    if learning.unit() == "nats/pair" { "held-out loss, pair mean" } else { "held-out loss, token mean" }
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
        let losses = by_round.get(&round).map(|point| &point.losses);
        test.push(losses.and_then(|losses| losses.test));
        held_out.push(losses.and_then(|losses| losses.held_out));
        // Row r of the table is round r + 1; nothing was trained before round 1.
        let row = (round as usize).checked_sub(1).filter(|&row| train_losses.is_valid(row));
        train.push(row.map(|row| train_losses.value(row)));
    }
    let alone = learning.loss_alone();
    let own_by_round: BTreeMap<u32, &CurvePoint> = learning.personal.iter().map(|point| (point.round, point)).collect();
    let own = rounds.iter().map(|round| own_by_round.get(round).and_then(|point| point.losses.held_out));
    let mut columns = Vec::from(axes(run, rounds.iter().copied()));
    let unit = learning.unit();
    let drawn = [
        Column::numbers("test_loss", "test loss", unit, test),
        Column::numbers("held_out_loss", held_out_title(learning), unit, held_out),
        Column::numbers("own_held_out_loss", "held-out loss of clients' own models, token mean", unit, own),
        Column::numbers("train_loss", "training loss of counted updates", unit, train),
        Column::numbers("alone_loss", "clients trained alone", unit, rounds.iter().map(|_| alone)),
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
            "Lower is better. {} on the test rows and on all clients' held-out rows (`evaluations`), each row weighted by its \
             target tokens or, of preference data, pairs, with the weighted training loss of the updates that counted \
             (`rounds.train_loss`).",
            if learning.is_local { "Clients' own models" } else { "The server model" }
        ),
        draw: Draw::Lines { x: AXES.to_vec(), y, split: None, band: None },
        columns,
        notes: groups.note("losses are those after the last round of each").into_iter().collect(),
    })
}

/// Returns the charts of preference metrics; other data has none.
fn preference(run: &RunRecord, learning: &Learning) -> Vec<Figure> {
    let scored: Vec<&CurvePoint> = learning.points.iter().filter(|point| point.ranking.is_some()).collect();
    if scored.is_empty() {
        return vec![];
    }
    let axes = axes(run, scored.iter().map(|point| point.round));
    let accuracy = scored.iter().map(|point| point.ranking.map(|ranking| ranking.accuracy));
    let margin = scored.iter().map(|point| point.ranking.map(|ranking| ranking.margin));
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
