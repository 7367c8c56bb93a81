//! The measured models as a table: first, last, and whom they were measured on.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;
use super::statistics::{mean, quantile, sorted, worst_decile};

/// The table of evaluations; none of a plan.
pub fn section(run: &RunRecord) -> Section {
    Section { title: "Evaluations", figures: table(run).into_iter().collect() }
}

/// The rows of one evaluation: what was evaluated, after which round, on which rows.
#[derive(Default)]
struct Group {
    rows: u64,
    tokens: u64,
    losses: Vec<f64>,
    not_finite: u64,
    accuracies: Vec<f64>,
    margins: Vec<f64>,
}

fn table(run: &RunRecord) -> Option<Figure> {
    let measured = &run.evaluations;
    let mut groups: BTreeMap<(u32, &str, &str), Group> = BTreeMap::new();
    // The figures of benchmarks have no loss, and other parts than rows of the scenario.
    let is_loss = |&row: &usize| ["test", "held_out"].contains(&measured.split.value(row));
    for row in (0..measured.round.len()).filter(is_loss) {
        let key = (measured.round.value(row), measured.subject.value(row), measured.split.value(row));
        let group = groups.entry(key).or_default();
        group.rows = group.rows.saturating_add(measured.rows.value(row));
        group.tokens = group.tokens.saturating_add(measured.target_tokens.value(row));
        match measured.loss.is_valid(row) {
            true => group.losses.push(measured.loss.value(row)),
            false => group.not_finite += 1,
        }
        let keep = |column: &arrow::array::Float64Array, into: &mut Vec<f64>| {
            into.extend(column.is_valid(row).then(|| column.value(row)));
        };
        keep(&measured.preference_accuracy, &mut group.accuracies);
        keep(&measured.reward_margin, &mut group.margins);
    }
    groups.first_key_value()?;
    let of = |figure: fn(&[f64]) -> Option<f64>| {
        groups.values().map(move |group| figure(&sorted(group.losses.iter().copied())))
    };
    let mut columns = vec![
        Column::counts("round", "after round", "rounds", groups.keys().map(|key| key.0)),
        Column::names("subject", "model", groups.keys().map(|key| Some(model(key.1)))),
        Column::names("split", "rows of", groups.keys().map(|key| Some(key.2))),
        Column::counts(
            "evaluated",
            "models or clients",
            "1",
            groups.values().map(|group| group.losses.len() as u64 + group.not_finite),
        ),
        Column::counts("rows", "rows", "rows", groups.values().map(|group| group.rows)),
        Column::counts("target_tokens", "target tokens", "tokens", groups.values().map(|group| group.tokens)),
        Column::numbers("mean_loss", "loss, mean", "nats", of(mean)),
        Column::numbers("median_loss", "median", "nats", of(|losses| quantile(losses, 0.5))),
        Column::numbers("worst_decile_loss", "worst tenth", "nats", of(worst_decile)),
        Column::numbers(
            "preference_accuracy",
            "pairs ranked right",
            "share",
            groups.values().map(|group| mean(&group.accuracies)),
        ),
        Column::numbers("reward_margin", "reward margin", "1", groups.values().map(|group| mean(&group.margins))),
    ];
    let not_finite: u64 = groups.values().map(|group| group.not_finite).sum();
    columns.retain(|column| !column.is_blank());
    Some(Figure {
        id: "evaluations",
        title: "All evaluations".into(),
        caption: "A row for each model, round and set of rows; over clients, each counts once (`evaluations`).".into(),
        draw: Draw::Table,
        columns,
        notes: (not_finite > 0)
            .then(|| format!("{not_finite} losses were not finite and are in no mean."))
            .into_iter()
            .collect(),
    })
}

fn model(subject: &str) -> String {
    match subject {
        "global" => "server model".into(),
        "local" => "client alone".into(),
        other => other.into(),
    }
}
