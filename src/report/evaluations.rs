//! The measured models as tables: their losses, what benchmarks gave, and some of what they answered.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;
use super::statistics::{mean, quantile, sorted, worst_decile};
use super::units::cut;

/// Answers of each benchmark that are shown.
const ANSWERS: usize = 5;

/// [characters] Of a prompt, an answer or a judgement that is shown; the ledger has all of it.
const SHOWN: usize = 600;

/// The tables of evaluations; none of a plan.
pub fn section(run: &RunRecord) -> Section {
    let figures = [losses(run), benchmarks(run), answers(run)];
    Section { title: "Evaluations", figures: figures.into_iter().flatten().collect() }
}

/// The losses of one evaluation: what was evaluated, after which round, on which rows.
#[derive(Default)]
struct Group {
    rows: u64,
    tokens: u64,
    losses: Vec<f64>,
    not_finite: u64,
    accuracies: Vec<f64>,
    margins: Vec<f64>,
}

fn losses(run: &RunRecord) -> Option<Figure> {
    let mut groups: BTreeMap<(u32, &str, &str), Group> = BTreeMap::new();
    for row in &run.losses {
        let group = groups.entry((row.round, &row.subject, &row.split)).or_default();
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
        Column::numbers("mean_loss", "loss, mean", unit, of(mean)),
        Column::numbers("median_loss", "median", unit, of(|losses| quantile(losses, 0.5))),
        Column::numbers("worst_decile_loss", "worst tenth", unit, of(worst_decile)),
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
        caption: "A row for each model, round and set of rows; over clients, each counts once (`evaluations`).".into(),
        draw: Draw::Table,
        columns,
        notes: (not_finite > 0)
            .then(|| format!("{not_finite} losses were not finite and are in no mean."))
            .into_iter()
            .collect(),
    })
}

/// What benchmarks gave, part by part.
fn benchmarks(run: &RunRecord) -> Option<Figure> {
    let rows = &run.benchmarks;
    rows.first()?;
    let client = |client: Option<u32>| client.map(|client| run.population.client_id.value(client as usize));
    let mut columns = vec![
        Column::counts("round", "after round", "rounds", rows.iter().map(|row| row.round)),
        Column::names("subject", "model", rows.iter().map(|row| Some(model(&row.subject)))),
        Column::names("client", "of client", rows.iter().map(|row| client(row.client))),
        Column::names("benchmark", "benchmark", rows.iter().map(|row| Some(row.benchmark.as_str()))),
        Column::names("part", "part", rows.iter().map(|row| Some(row.split.as_str()))),
        Column::counts("questions", "questions", "1", rows.iter().map(|row| row.rows)),
        Column::counts("failed", "without answer or judgement", "1", rows.iter().map(|row| row.failed)),
        Column::numbers("score", "score", "1", rows.iter().map(|row| row.score)),
    ];
    columns.retain(|column| column.name != "client" || !column.is_blank());
    Some(Figure {
        id: "benchmarks",
        title: "Benchmarks".into(),
        caption:
            "A row for each figure of a benchmark; `all` is the whole. Shares are of 1, ratings of a judge from 1 \
                  to 10; where no judge was asked, answers are kept and there is no score (`evaluations`)."
                .into(),
        draw: Draw::Table,
        columns,
        notes: vec![],
    })
}

/// The first answers to each benchmark after the last round at which it was taken.
fn answers(run: &RunRecord) -> Option<Figure> {
    let all = &run.generations;
    let count = all.round.len();
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for row in 0..count {
        let round = last.entry(all.benchmark.value(row)).or_default();
        *round = all.round.value(row).max(*round);
    }
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut is_shown = |row: &usize| {
        let benchmark = all.benchmark.value(*row);
        let taken = taken.entry(benchmark).or_default();
        *taken += usize::from(all.round.value(*row) == last[benchmark]);
        all.round.value(*row) == last[benchmark] && *taken <= ANSWERS
    };
    let shown: Vec<usize> = (0..count).filter(|row| is_shown(row)).collect();
    shown.first()?;
    let text =
        |column: &arrow::array::StringArray, row: usize| column.is_valid(row).then(|| cut(column.value(row), SHOWN));
    let texts = |name, title, column| Column::names(name, title, shown.iter().map(|&row| text(column, row)));
    let mut columns = vec![
        Column::counts("round", "after round", "rounds", shown.iter().map(|&row| all.round.value(row))),
        texts("benchmark", "benchmark", &all.benchmark),
        texts("question", "question", &all.question),
        texts("category", "category", &all.category),
        texts("prompt", "asked", &all.prompt),
        texts("answer", "answered", &all.answer),
        texts("judgement", "judged", &all.judgement),
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

fn model(subject: &str) -> String {
    match subject {
        "global" => "server model".into(),
        "local" => "client alone".into(),
        other => other.into(),
    }
}
