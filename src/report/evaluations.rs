//! Tables of evaluations: losses, benchmark metrics, and sample answers.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::figure::{Column, Draw, Figure, Section};
use super::reported_run::{Generations, ReportedRun};
use super::units::cut;
use crate::ledger::EvalSubject;
use crate::results::{LossGroup, RunRecord};

/// Number of answers that are shown of each benchmark.
const ANSWERS: usize = 5;

/// [character] -- Shown part of a prompt, an answer or a judgment; the ledger has the full text.
const SHOWN: usize = 600;

/// Returns the tables of evaluations; a plan has none.
pub fn section(run: &ReportedRun) -> Section {
    let figures = [losses(&run.record), benchmarks(&run.record), answers(&run.generations)];
    Section { title: "Evaluations", figures: figures.into_iter().flatten().collect() }
}

/// Returns the table of all losses. `None` if there are none.
fn losses(run: &RunRecord) -> Option<Figure> {
    let groups = LossGroup::all(&run.losses);
    groups.first()?;
    let unit = run.loss_unit();
    let mut columns = vec![
        Column::counts("round", "after round", "rounds", groups.iter().map(|group| group.round)),
        Column::names("subject", "model", groups.iter().map(|group| Some(model(group.subject)))),
        Column::names("split", "rows of", groups.iter().map(|group| Some(group.split.name()))),
        Column::counts("evaluated", "models or clients", "1", groups.iter().map(|group| group.evaluated)),
        Column::counts("rows", "rows", "rows", groups.iter().map(|group| group.rows)),
        Column::counts("target_tokens", "target tokens", "tokens", groups.iter().map(|group| group.target_tokens)),
        Column::numbers("mean_loss", "loss, mean over models or clients", unit, groups.iter().map(|group| group.mean)),
        Column::numbers("median_loss", "median", unit, groups.iter().map(|group| group.median)),
        Column::numbers("worst_decile_loss", "worst tenth", unit, groups.iter().map(|group| group.worst_decile)),
        Column::numbers(
            "preference_accuracy",
            "pairs ranked right, client mean",
            "share",
            groups.iter().map(|group| group.preference_accuracy),
        ),
        Column::numbers(
            "reward_margin",
            "reward margin, client mean",
            "1",
            groups.iter().map(|group| group.reward_margin),
        ),
    ];
    let not_finite: u64 = groups.iter().map(|group| group.not_finite).sum();
    columns.retain(|column| !column.is_blank());
    Some(Figure {
        id: "evaluations",
        title: "All losses".into(),
        caption: "One row per model, round and set of rows. A client mean counts each client once, whatever its rows (`evaluations`)."
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
    let clients = rows.iter().map(|row| row.client.map(|client| run.population.client_id(client)));
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
fn answers(all: &Generations) -> Option<Figure> {
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
        EvalSubject::Personal => "client's own",
        EvalSubject::FineTuned => "fine-tuned",
    }
}
