//! `fedreplay eval`: evaluates the models of a run, or of a folder, by losses and benchmarks.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::benchmarks::SelectedBenchmarks;
use crate::cli::args::eval::EvalArguments;
use crate::cli::errors::CommandError;
use crate::cli::output::eval_progress::EvalProgressBar;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{self, say, shown};
use fedreplay::benchmarks::{BenchmarkTable, EvalOptions};
use fedreplay::evaluate::{EvalTables, EvalTarget, Evaluator, NamedTemplate};
use fedreplay::judge::{CallTally, CostEstimate};
use fedreplay::ledger::{ColumnValue, EvaluationRow, LOSSES, Manifest, Split};
use fedreplay::report::units;
use fedreplay::run::{RunError, refuse_inside_run};

/// Evaluates the models, or with `--dry-run` only prints the cost.
pub fn main(arguments: &EvalArguments) -> Result<ExitCode, CommandError> {
    let is_run = Manifest::path(&arguments.subject).exists();
    // Read before a model is loaded, so that bad names and files are reported at once.
    let benchmarks = SelectedBenchmarks::new(arguments, is_run)?;
    if let Some(out) = &arguments.out {
        refuse_inside_run(out)?;
    }
    let options = arguments.run_args.options(arguments.out.clone().unwrap_or_default())?;
    let [device] = options.devices[..] else {
        return Err(CommandError::Usage("failed to examine on several devices: --device names one here".to_owned()));
    };
    let target = ProgressDisplay::during("reading data, loading the base model", || {
        if is_run {
            return EvalTarget::run(&arguments.subject, arguments.round, device, &options.numerics);
        }
        let EvalArguments { subject, adapter, precision, .. } = arguments;
        let template = NamedTemplate { name: arguments.template.clone(), date: arguments.template_date };
        EvalTarget::folder(subject, adapter.as_deref(), &template, *precision, device, &options.numerics)
    })?;
    if !benchmarks.opened.is_empty() {
        say!("{:<14}with {}", "answers end", target.ends().join(", "));
    }
    let rules = EvalOptions {
        judge: arguments.judging.judge(&options.store)?,
        wording: arguments.judging.wording()?,
        is_as_published: arguments.as_published,
        answer_tokens_max: arguments.answer_tokens_max,
    };
    let evaluator = Evaluator { target: &target, options: &options, rules: &rules };
    match arguments.dry_run {
        true => dry_run(arguments, &evaluator, &benchmarks),
        false => evaluate(arguments, &evaluator, &benchmarks),
    }
}

/// Prints what the evaluation would request of the models and of the judge.
fn dry_run(
    arguments: &EvalArguments,
    evaluator: &Evaluator,
    benchmarks: &SelectedBenchmarks,
) -> Result<ExitCode, CommandError> {
    let models = match evaluator.target.models.len() {
        1 => "1 model".to_owned(),
        count => format!("{count} models"),
    };
    if benchmarks.losses {
        say!("{LOSSES:<20}{models} on the run's rows");
    }
    let costs = evaluator.costs(&benchmarks.opened, &EvalProgressBar::silent())?;
    for (opened, cost) in benchmarks.opened.iter().zip(costs) {
        say!(
            "{:<20}{models}: {} questions, {} tokens to read, at most {} to write",
            opened.name,
            cost.questions,
            cost.prompt_tokens,
            cost.answer_tokens_max
        );
        let CostEstimate { stored, to_ask } = cost.judge;
        if stored + to_ask.requests > 0 {
            let price = arguments.judging.price(&to_ask).map_or(String::new(), |price| format!(", {price:.2} at most"));
            say!(
                "{:<20}{stored} judgements are stored, {} to ask for: at most {} tokens to read, {} to write{price}",
                "",
                to_ask.requests,
                to_ask.prompt_tokens,
                to_ask.completion_tokens
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Evaluates the models and prints each result as it arrives.
fn evaluate(
    arguments: &EvalArguments,
    evaluator: &Evaluator,
    benchmarks: &SelectedBenchmarks,
) -> Result<ExitCode, CommandError> {
    let mut tables = EvalTables::default();
    if let (true, Some(rows)) = (benchmarks.losses, &evaluator.target.rows) {
        let mut progress = ProgressDisplay::new("computing losses");
        let added = evaluator.losses(rows, &mut progress)?;
        // The display ends before results are printed, so that the bar is not drawn between them.
        drop(progress);
        add(&mut tables, &added, arguments)?;
    }
    if !benchmarks.opened.is_empty() {
        let progress = EvalProgressBar::new();
        evaluator.benchmarks(&benchmarks.opened, &progress, &mut |added| add(&mut tables, added, arguments))?;
        progress.end();
    }
    finish(arguments, &tables, evaluator.rules.judge.as_ref().map(|judge| judge.tally()))
}

/// Adds the results of a benchmark to `tables`, prints them and rewrites the files.
fn add(tables: &mut EvalTables, added: &EvalTables, arguments: &EvalArguments) -> Result<(), RunError> {
    tables.extend(added);
    for row in &added.evaluations {
        if is_headline(row) {
            print(row);
        }
    }
    // Written after each benchmark, so that an interruption does not lose those that finished.
    match &arguments.out {
        Some(out) => tables.write(out),
        None => Ok(()),
    }
}

/// Returns whether a row is printed. Rows of whole benchmarks are; rows of their parts are only in the tables.
fn is_headline(row: &EvaluationRow) -> bool {
    row.benchmark == LOSSES || row.split == Split::Whole
}

/// Prints a result in one line.
fn print(row: &EvaluationRow) {
    let client = row.client.map_or(String::new(), |client| format!(" client {client}"));
    let of = format!("{}{client}, {} {}", row.subject, row.benchmark, row.split);
    let failed = if row.failed > 0 { format!(", {} failed", row.failed) } else { String::new() };
    match row.score {
        Some(score) => say!("{of:<44} {score:.4} of {} questions{failed}", row.rows),
        None if row.benchmark != LOSSES => say!("{of:<44} no score of {} questions{failed}", row.rows),
        None => {
            let perplexity = row.perplexity.map_or(String::new(), |value| format!(", perplexity {value:.2}"));
            let tokens = percentage("tokens right", row.token_accuracy);
            let pairs = percentage("pairs right", row.preference_accuracy);
            say!("{of:<44} loss {}{perplexity}{tokens}{pairs}, {} rows", units::loss(row.loss), row.rows);
        }
    }
}

/// Formats a share with its name, or nothing if it was not measured.
fn percentage(name: &str, share: Option<f64>) -> String {
    share.map_or(String::new(), |share| format!(", {name} {:.1} %", 100.0 * share))
}

/// Prints the published table and the totals.
fn finish(arguments: &EvalArguments, tables: &EvalTables, judged: Option<CallTally>) -> Result<ExitCode, CommandError> {
    if !tables.table.is_empty() {
        output::text(format_args!("\n{}\n", tables.table.to_text()));
    }
    if let Some(CallTally { asked, stored, failed, unusable }) = judged {
        let price = arguments.judging.price(&asked).map_or(String::new(), |price| format!(", {price:.2}"));
        say!(
            "{:<14}{} judgements asked for ({} tokens read, {} written{price}), {stored} from the store, {failed} not to be had",
            "judge",
            asked.requests,
            asked.prompt_tokens,
            asked.completion_tokens
        );
        if unusable > 0 {
            say!(
                "{:<14}{unusable} judgements were cut off or empty and are not stored: allow longer ones with --judge-tokens-max",
                ""
            );
        }
    }
    if let Some(out) = &arguments.out {
        say!("{:<14}{}", "tables", out.display());
    }
    if arguments.run_args.json {
        say!("{}", summary_json(arguments, tables, judged));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns all results as one JSON object.
fn summary_json(arguments: &EvalArguments, tables: &EvalTables, judged: Option<CallTally>) -> serde_json::Value {
    let mut figures = Vec::new();
    for row in &tables.evaluations {
        figures
            .push(json!({ "subject": row.subject.name(), "client": row.client, "benchmark": row.benchmark, "part": row.split.name(),
            "rows": row.rows, "failed": row.failed, "score": row.score, "loss": row.loss }));
    }
    let judge = judged.map(|CallTally { asked, stored, failed, unusable }| {
        json!({ "asked": asked.requests, "prompt_tokens": asked.prompt_tokens,
            "completion_tokens": asked.completion_tokens, "cost": arguments.judging.price(&asked), "stored": stored,
            "failed": failed, "unusable": unusable })
    });
    let table = cells(&tables.table);
    json!({ "examined": shown(&arguments.subject), "out": arguments.out.as_ref().map(shown), "figures": figures, "table": table, "judge": judge })
}

/// Returns the published table with one entry per cell.
fn cells(table: &BenchmarkTable) -> Vec<serde_json::Value> {
    let mut entries = Vec::new();
    for row in &table.rows {
        for cell in &row.cells {
            let published = row.published(&cell.column).map(|published| published.figure);
            entries.push(
                json!({ "model": row.name, "column": cell.column, "measured": cell.value, "published": published,
                "remark": cell.remark }),
            );
        }
    }
    entries
}
