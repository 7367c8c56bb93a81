//! Tables of evaluations: losses, benchmark metrics, and sample answers.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;
use super::statistics::{mean, quantile, sorted, worst_decile};
use super::units::cut;
use crate::ledger::EvalSubject;

/// Number of answers that are shown of each benchmark.
const ANSWERS: usize = 5;

/// [character] -- Shown part of a prompt, an answer or a judgment; the ledger has the full text.
const SHOWN: usize = 600;

/// Returns the tables of evaluations; a plan has none.
pub fn section(run: &RunRecord) -> Section {
    let figures = [losses(run), benchmarks(run), answers(run)];
    Section { title: "Evaluations", figures: figures.into_iter().flatten().collect() }
}

/// Losses of one evaluation, that is, of one kind of model after one round on one split.
#[derive(Default)]
struct Group {
    rows: u64,
    tokens: u64,
    losses: Vec<f64>,
    not_finite: u64,
    accuracies: Vec<f64>,
    margins: Vec<f64>,
}

/// Returns the table of all losses. `None` if there are none.
fn losses(run: &RunRecord) -> Option<Figure> {
    // Round, subject and split.
    let mut groups: BTreeMap<(u32, EvalSubject, &str), Group> = BTreeMap::new();
    for row in &run.losses {
        let group = groups.entry((row.round, row.subject, row.split.name())).or_default();
        group.rows = group.rows.saturating_add(row.rows);
        group.tokens = group.tokens.saturating_add(row.target_tokens);
        match row.loss {
            Some(loss) => group.losses.push(loss),
            None => group.not_finite += 1,
        }
        group.accuracies.extend(row.preference_accuracy);
        group.margins.extend(row.reward_margin);
    }
    groups.first_key_value()?;
    let unit = run.loss_unit();
    let losses: Vec<Vec<f64>> = groups.values().map(|group| sorted(group.losses.iter().copied())).collect();
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
        Column::numbers("mean_loss", "loss, mean", unit, losses.iter().map(|losses| mean(losses))),
        Column::numbers("median_loss", "median", unit, losses.iter().map(|losses| quantile(losses, 0.5))),
        Column::numbers("worst_decile_loss", "worst tenth", unit, losses.iter().map(|losses| worst_decile(losses))),
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
        title: "All losses".into(),
        caption: "One row per model, round and set of rows; in means over clients, each counts once (`evaluations`)."
            .into(),
        draw: Draw::Table,
        columns,
        notes: (not_finite > 0)
            .then(|| format!("{not_finite} losses were not finite and are in no mean."))
            .into_iter()
            .collect(),
    })
}

/// Returns the table of benchmark metrics. `None` if there are none.
fn benchmarks(run: &RunRecord) -> Option<Figure> {
    let rows = &run.benchmarks;
    rows.first()?;
    let names = &run.population.client_id;
    let clients = rows.iter().map(|row| row.client.map(|client| names.value(client as usize)));
    let mut columns = vec![
        Column::counts("round", "after round", "rounds", rows.iter().map(|row| row.round)),
        Column::names("subject", "model", rows.iter().map(|row| Some(model(row.subject)))),
        Column::names("client", "of client", clients),
        Column::names("benchmark", "benchmark", rows.iter().map(|row| Some(row.benchmark.as_str()))),
        Column::names("part", "part", rows.iter().map(|row| Some(row.split.name()))),
        Column::counts("questions", "questions", "1", rows.iter().map(|row| row.rows)),
        Column::counts("failed", "without answer or judgement", "1", rows.iter().map(|row| row.failed)),
        Column::numbers("score", "score", "1", rows.iter().map(|row| row.score)),
    ];
    columns.retain(|column| column.name != "client" || !column.is_blank());
    Some(Figure {
        id: "benchmarks",
        title: "Benchmarks".into(),
        caption: "One row per metric of a benchmark; `all` is the whole. Shares are of 1, ratings of a judge from 1 \
                  to 10; where no judge was asked, answers are kept and there is no score (`evaluations`)."
            .into(),
        draw: Draw::Table,
        columns,
        notes: vec![],
    })
}

/// Returns the table of the first answers to each benchmark after the last round at which it was run. `None` if there
/// are none.
fn answers(run: &RunRecord) -> Option<Figure> {
    let all = &run.generations;
    let count = all.round.len();
    // First find the last round of each benchmark, then its first answers after that round, in the order of the table.
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for row in 0..count {
        let round = last.entry(all.benchmark.value(row)).or_default();
        *round = all.round.value(row).max(*round);
    }
    let mut shown_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut shown: Vec<usize> = Vec::new();
    for row in 0..count {
        let benchmark = all.benchmark.value(row);
        let shown_of = shown_of.entry(benchmark).or_default();
        if all.round.value(row) == last[benchmark] && *shown_of < ANSWERS {
            *shown_of += 1;
            shown.push(row);
        }
    }
    shown.first()?;
    let mut columns = vec![
        Column::counts("round", "after round", "rounds", shown.iter().map(|&row| all.round.value(row))),
        texts("benchmark", "benchmark", &all.benchmark, &shown),
        texts("question", "question", &all.question, &shown),
        texts("category", "category", &all.category, &shown),
        texts("prompt", "asked", &all.prompt, &shown),
        texts("answer", "answered", &all.answer, &shown),
        texts("judgement", "judged", &all.judgement, &shown),
        Column::numbers(
            "score",
            "score",
            "1",
            shown.iter().map(|&row| all.score.is_valid(row).then(|| all.score.value(row))),
        ),
    ];
    columns.retain(|column| !column.is_blank());
    Some(Figure {
        id: "answers",
        title: "Some answers".into(),
        caption: format!(
            "The first {ANSWERS} answers to each benchmark after the last round at which it was taken, of {count} in all \
             (`generations`)."
        ),
        draw: Draw::Table,
        columns,
        notes: vec![format!("Texts are cut after {SHOWN} characters.")],
    })
}

/// Returns a column with the beginnings of the texts in these rows.
fn texts(name: &'static str, title: &'static str, column: &arrow::array::StringArray, rows: &[usize]) -> Column {
    let texts = rows.iter().map(|&row| column.is_valid(row).then(|| cut(column.value(row), SHOWN)));
    Column::names(name, title, texts)
}

/// Names the subject of an evaluation for people.
fn model(subject: EvalSubject) -> &'static str {
    match subject {
        EvalSubject::Base => "base",
        EvalSubject::Global => "server model",
        EvalSubject::Local => "client alone",
    }
}
