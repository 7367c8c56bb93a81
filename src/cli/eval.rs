//! `fedreplay eval`: evaluates the models of a run, or of a folder, by losses and benchmarks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::asking::Asking;
use super::judging::Judging;
use super::output::{self, say};
use super::papers::Papers;
use super::playing::Playing;
use super::progress::Progress;
use super::units;
use crate::evaluation::benchmark::Table;
use crate::evaluation::judge::{Estimate, Tally};
use crate::ledger::{EvaluationRow, Manifest};
use crate::model::{Arithmetic, Precision};
use crate::run::{Examination, Examined, Findings, LOSSES, Rules, RunError};

#[derive(Args)]
pub struct Arguments {
    /// Folder of a run, or of a model in the layout of Hugging Face.
    pub subject: PathBuf,
    /// Benchmarks, separated by commas; `losses` are the losses on a run's rows, `all` is every benchmark with files in
    /// --data.
    #[arg(long, value_name = "NAME,...", default_value = LOSSES, value_delimiter = ',')]
    pub bench: Vec<String>,
    /// Folder with the benchmarks' files, each in a subfolder named after its benchmark.
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Number of questions of each benchmark, spread evenly over it [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Solved examples before each question of MMLU.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=5))]
    pub shots: u32,
    /// Programs sampled for each problem of HumanEval, for pass@1, pass@10 and pass@100; a single one is decoded
    /// greedily.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub samples: u32,
    /// Limit on the tokens of an answer, if lower than the benchmark's [default: the benchmark's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    answer_tokens_max: Option<u32>,
    /// Run the programs that the model writes for HumanEval, in a sandbox; a host that cannot confine them is refused.
    #[arg(long)]
    pub allow_code_execution: bool,
    /// Round of the run whose adapters are evaluated [default: the last that was saved].
    #[arg(long, value_name = "N")]
    round: Option<u32>,
    /// PEFT folder of an adapter to apply to a model's folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "round")]
    adapter: Option<PathBuf>,
    /// Number format of a model's folder: f32, bf16, int8 or nf4; a run has its own.
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = precision)]
    precision: Precision,
    /// Folder to write the tables `evaluations` and `generations` to, and the published table as text and CSV [default:
    /// none, only the figures are printed].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Prompt template for a model's folder: a template's name, or `chat` for the folder's own; a run has its own.
    #[arg(long, value_name = "NAME", default_value = "alpaca")]
    template: String,
    /// Prompt, sample, judge and aggregate as FedLLM-Bench's scripts do, defects included.
    #[arg(long)]
    as_published: bool,
    #[command(flatten)]
    judging: Judging,
    /// Print what would be requested, and request nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    playing: Playing,
}

/// Parses the name of a number format.
fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        "int8" => Ok(Precision::Int8(Arithmetic::Bf16)),
        "nf4" => Ok(Precision::Nf4 { arithmetic: Arithmetic::Bf16, double: true }),
        _ => Err("it must be f32, bf16, int8 or nf4".to_owned()),
    }
}

/// Evaluates, or with `--dry-run` only prints the cost.
pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let is_run = Manifest::path(&arguments.subject).exists();
    // Read before a model is loaded, so that bad names and files are reported at once.
    let papers = Papers::new(arguments, is_run)?;
    let settings = arguments.playing.settings(arguments.out.clone().unwrap_or_default())?;
    let [device] = settings.devices[..] else {
        return Err(RunError::Usage("failed to examine on several devices: --device names one here".to_owned()));
    };
    let examined = Progress::during("reading data, loading the base model", || {
        if is_run {
            return Examined::run(&arguments.subject, arguments.round, device, &settings.numerics);
        }
        let Arguments { subject, adapter, template, precision, .. } = arguments;
        Examined::folder(subject, adapter.as_deref(), template, *precision, device, &settings.numerics)
    })?;
    let rules = Rules {
        judge: arguments.judging.judge(&settings.store)?,
        wording: arguments.judging.wording()?,
        is_as_published: arguments.as_published,
        answer_tokens_max: arguments.answer_tokens_max,
    };
    let examination = Examination { examined: &examined, settings: &settings, rules: &rules };
    match arguments.dry_run {
        true => dry_run(arguments, &examination, &papers),
        false => examine(arguments, &examination, &papers),
    }
}

/// Prints what the evaluation would request of the models and of the judge.
fn dry_run(arguments: &Arguments, examination: &Examination, papers: &Papers) -> Result<ExitCode, RunError> {
    let models = match examination.examined.models.len() {
        1 => "1 model".to_owned(),
        count => format!("{count} models"),
    };
    if papers.losses {
        say!("{LOSSES:<20}{models} on the run's rows");
    }
    let costs = examination.costs(&papers.opened, &Asking::silent())?;
    for (opened, cost) in papers.opened.iter().zip(costs) {
        say!(
            "{:<20}{models}: {} questions, {} tokens to read, at most {} to write",
            opened.name,
            cost.questions,
            cost.prompt_tokens,
            cost.answer_tokens_max
        );
        let Estimate { stored, to_ask } = cost.judge;
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

/// Evaluates and prints each result as it arrives.
fn examine(arguments: &Arguments, examination: &Examination, papers: &Papers) -> Result<ExitCode, RunError> {
    let mut findings = Findings::default();
    if let (true, Some(rows)) = (papers.losses, &examination.examined.rows) {
        let mut progress = Progress::new("computing losses");
        let found = examination.losses(rows, &mut progress)?;
        // The display ends before results are printed, so that the bar is not drawn between them.
        drop(progress);
        add(&mut findings, &found, arguments)?;
    }
    if !papers.opened.is_empty() {
        let asking = Asking::new();
        examination.benchmarks(&papers.opened, &asking, &mut |found| add(&mut findings, found, arguments))?;
        asking.end();
    }
    finish(arguments, &findings, examination.rules.judge.as_ref().map(|judge| judge.tally()))
}

/// Adds the results of a benchmark, prints them and rewrites the tables.
fn add(findings: &mut Findings, found: &Findings, arguments: &Arguments) -> Result<(), RunError> {
    findings.extend(found);
    for row in &found.evaluations {
        if is_headline(row) {
            print(row);
        }
    }
    // Written after each benchmark, so that an interruption does not lose those that finished.
    match &arguments.out {
        Some(out) => findings.write(out),
        None => Ok(()),
    }
}

/// Returns whether a row is printed: those of whole benchmarks are, those of parts are only in the tables.
fn is_headline(row: &EvaluationRow) -> bool {
    row.benchmark == LOSSES || row.split == "all"
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
fn finish(arguments: &Arguments, findings: &Findings, judged: Option<Tally>) -> Result<ExitCode, RunError> {
    if !findings.table.is_empty() {
        output::text(format_args!("\n{}\n", findings.table.to_text()));
    }
    if let Some(Tally { asked, stored, failed }) = judged {
        let price = arguments.judging.price(&asked).map_or(String::new(), |price| format!(", {price:.2}"));
        say!(
            "{:<14}{} judgements asked for ({} tokens read, {} written{price}), {stored} from the store, {failed} not to be had",
            "judge",
            asked.requests,
            asked.prompt_tokens,
            asked.completion_tokens
        );
    }
    if let Some(out) = &arguments.out {
        say!("{:<14}{}", "tables", out.display());
    }
    if arguments.playing.json {
        say!("{}", summary_json(arguments, findings, judged));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns all results as one JSON object.
fn summary_json(arguments: &Arguments, findings: &Findings, judged: Option<Tally>) -> serde_json::Value {
    let mut figures = Vec::new();
    for row in &findings.evaluations {
        figures
            .push(json!({ "subject": row.subject, "client": row.client, "benchmark": row.benchmark, "part": row.split,
            "rows": row.rows, "failed": row.failed, "score": row.score, "loss": row.loss }));
    }
    let judge = judged.map(|Tally { asked, stored, failed }| {
        json!({ "asked": asked.requests, "prompt_tokens": asked.prompt_tokens,
            "completion_tokens": asked.completion_tokens, "cost": arguments.judging.price(&asked), "stored": stored,
            "failed": failed })
    });
    let table = cells(&findings.table);
    json!({ "examined": arguments.subject, "out": arguments.out, "figures": figures, "table": table, "judge": judge })
}

/// Returns the published table with one entry per cell.
fn cells(table: &Table) -> Vec<serde_json::Value> {
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
