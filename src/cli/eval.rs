//! `fedreplay eval`: examines the models of a run, or of a folder, by losses and benchmarks.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::asking::Asking;
use super::judging::Judging;
use super::output::say;
use super::playing::Playing;
use super::units;
use crate::evaluation::benchmark::Benchmark;
use crate::evaluation::{Terms, named, open};
use crate::ledger::{EvaluationRow, Manifest};
use crate::model::{Arithmetic, Precision};
use crate::run::{Examination, Examined, Findings, LOSSES, Opened, Rules, RunError};
use crate::training::Numerics;

#[derive(Args)]
pub struct Arguments {
    /// Folder of a run, or of a model as Hugging Face lays it out.
    subject: PathBuf,
    /// Benchmarks, separated by commas; `losses` are those on a run's rows, `all` is everything that there are files for.
    #[arg(long, value_name = "NAME,...", default_value = LOSSES, value_delimiter = ',')]
    bench: Vec<String>,
    /// Folder of the benchmarks' files, each in a folder of its name.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Questions of each benchmark, spread evenly over it [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Solved examples before each question of MMLU.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=5))]
    shots: u32,
    /// Programs drawn for each problem of HumanEval, for pass@1, pass@10 and pass@100; a single one is not drawn but the
    /// likeliest.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    /// Run the programs that the model writes for HumanEval, in a sandbox; a host that cannot confine them is refused.
    #[arg(long)]
    allow_code_execution: bool,
    /// Round of the run whose adapters are examined [default: the last that was saved].
    #[arg(long, value_name = "N")]
    round: Option<u32>,
    /// PEFT folder of an adapter on a model's folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "round")]
    adapter: Option<PathBuf>,
    /// Number format of a model's folder: f32, bf16, int8 or nf4; a run has its own.
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = precision)]
    precision: Precision,
    /// Folder to write the tables `evaluations` and `generations` to [default: none, only the figures are printed].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// How a question is put to a model's folder: a template's name, or `chat` for the folder's own; a run has its own.
    #[arg(long, value_name = "NAME", default_value = "alpaca")]
    template: String,
    /// Ask, draw, judge and add up as FedLLM-Bench's scripts do, defects included.
    #[arg(long)]
    as_published: bool,
    #[command(flatten)]
    judging: Judging,
    /// Say what it would ask for, and ask nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    playing: Playing,
}

fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        "int8" => Ok(Precision::Int8(Arithmetic::Bf16)),
        "nf4" => Ok(Precision::Nf4 { arithmetic: Arithmetic::Bf16, double: true }),
        _ => Err("it must be f32, bf16, int8 or nf4".to_owned()),
    }
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let is_run = Manifest::path(&arguments.subject).exists();
    // Bad names and files are found before a model is loaded.
    let asked = Asked::new(arguments, is_run)?;
    let settings = arguments.playing.settings(arguments.out.clone().unwrap_or_default())?;
    let [device] = settings.devices[..] else {
        return Err(RunError::Usage("failed to examine on several devices: --device names one here".to_owned()));
    };
    let numerics = Numerics { threads: settings.workers, ..settings.numerics.clone() };
    let examined = match is_run {
        true => Examined::run(&arguments.subject, arguments.round, device, &numerics)?,
        false => {
            let adapter = arguments.adapter.as_deref();
            let (template, precision) = (&arguments.template, arguments.precision);
            Examined::folder(&arguments.subject, adapter, template, precision, device, &numerics)?
        }
    };
    let rules = Rules {
        judge: arguments.judging.judge(&settings.store)?,
        wording: arguments.judging.wording()?,
        is_as_published: arguments.as_published,
    };
    let examination = Examination { examined: &examined, settings: &settings, rules: &rules };
    match arguments.dry_run {
        true => dry_run(arguments, &examination, &asked),
        false => examine(arguments, &examination, &asked),
    }
}

/// What is to be done.
struct Asked {
    losses: bool,
    papers: Vec<Opened>,
}

impl Asked {
    fn new(arguments: &Arguments, is_run: bool) -> Result<Self, RunError> {
        let all = arguments.bench.iter().any(|name| name == "all");
        let losses = arguments.bench.iter().any(|name| name == LOSSES);
        if losses && !is_run {
            let subject = arguments.subject.display();
            return Err(RunError::Usage(format!(
                "failed to take losses of {subject}: it is no run, so there are no rows; name benchmarks with --bench"
            )));
        }
        let mut wanted = Vec::new();
        for name in arguments.bench.iter().filter(|name| *name != "all" && *name != LOSSES) {
            wanted.push(named(name).map_err(RunError::Usage)?);
        }
        let terms = terms(arguments, all || !wanted.is_empty())?;
        let mut papers = Vec::new();
        for benchmark in Benchmark::ALL {
            if !(all || wanted.contains(&benchmark)) {
                continue;
            }
            match open(benchmark, &terms)? {
                Some(paper) => papers.push(Opened { name: benchmark.name(), paper }),
                None if !wanted.contains(&benchmark) => {
                    tracing::warn!(
                        "{benchmark} is left out: it runs code that the model writes; --allow-code-execution"
                    );
                }
                None => {
                    return Err(RunError::Usage(format!(
                        "failed to take {benchmark}: it runs code that the model writes, which needs \
                         --allow-code-execution"
                    )));
                }
            }
        }
        Ok(Self { losses: losses || (all && is_run), papers })
    }
}

fn terms(arguments: &Arguments, has_benchmarks: bool) -> Result<Terms<'_>, RunError> {
    let data = match &arguments.data {
        Some(data) => data.as_path(),
        None if !has_benchmarks => Path::new("."),
        None => return Err(RunError::Usage("failed to find questions: --data names the folder of their files".into())),
    };
    let limit = arguments.limit.map(|limit| limit as usize);
    let (shots, samples) = (arguments.shots as usize, arguments.samples as usize);
    Ok(Terms { data, limit, shots, samples, runs_code: arguments.allow_code_execution })
}

fn dry_run(arguments: &Arguments, examination: &Examination, asked: &Asked) -> Result<ExitCode, RunError> {
    let models = examination.examined.models.len();
    if asked.losses {
        say!("{LOSSES:<20}{models} models on the run's rows");
    }
    let costs = examination.costs(&asked.papers, &Asking::silent())?;
    for (opened, cost) in asked.papers.iter().zip(costs) {
        say!(
            "{:<20}{models} models: {} questions, {} tokens to read, at most {} to write, each",
            opened.name,
            cost.questions,
            cost.prompt_tokens,
            cost.answer_tokens_max
        );
        if cost.judge.requests > 0 {
            let price =
                arguments.judging.price(&cost.judge).map_or(String::new(), |price| format!(", {price:.2} at most"));
            say!(
                "{:<20}{} judgements of each: about {} tokens to read and the answers, at most {} to write{price}",
                "",
                cost.judge.requests,
                cost.judge.prompt_tokens,
                cost.judge.completion_tokens
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn examine(arguments: &Arguments, examination: &Examination, asked: &Asked) -> Result<ExitCode, RunError> {
    let mut findings = Findings::default();
    let mut take = |found: &Findings| -> Result<(), RunError> {
        findings.extend(found);
        found.evaluations.iter().filter(|row| is_headline(row)).for_each(print);
        match &arguments.out {
            // Written after each benchmark, so that an interruption leaves what was finished.
            Some(out) => findings.write(out),
            None => Ok(()),
        }
    };
    if let (true, Some(rows)) = (asked.losses, &examination.examined.rows) {
        take(&examination.losses(rows)?)?;
    }
    if !asked.papers.is_empty() {
        let asking = Asking::new();
        examination.benchmarks(&asked.papers, &asking, &mut take)?;
        asking.end();
    }
    finish(arguments, &findings)
}

/// Parts of a benchmark are in the tables; what is printed is the whole, and MMLU's categories.
fn is_headline(row: &EvaluationRow) -> bool {
    row.benchmark == LOSSES || row.split == "all"
}

fn print(row: &EvaluationRow) {
    let client = row.client.map_or(String::new(), |client| format!(" client {client}"));
    let of = format!("{}{client}, {} {}", row.subject, row.benchmark, row.split);
    let failed = if row.failed > 0 { format!(", {} failed", row.failed) } else { String::new() };
    match row.score {
        Some(score) => say!("{of:<44} {score:.4} of {} questions{failed}", row.rows),
        None if row.benchmark != LOSSES => say!("{of:<44} no score of {} questions{failed}", row.rows),
        None => {
            let share = |name: &str, value: Option<f64>| {
                value.map_or(String::new(), |value| format!(", {name} {:.1} %", 100.0 * value))
            };
            let perplexity = row.perplexity.map_or(String::new(), |value| format!(", perplexity {value:.2}"));
            let tokens = share("tokens right", row.token_accuracy);
            let pairs = share("pairs right", row.preference_accuracy);
            say!("{of:<44} loss {}{perplexity}{tokens}{pairs}, {} rows", units::loss(row.loss), row.rows);
        }
    }
}

fn finish(arguments: &Arguments, findings: &Findings) -> Result<ExitCode, RunError> {
    if let Some(out) = &arguments.out {
        say!("{:<14}{}", "tables", out.display());
    }
    if arguments.playing.json {
        let figures: Vec<_> = findings
            .evaluations
            .iter()
            .map(|row| {
                json!({ "subject": row.subject, "client": row.client, "benchmark": row.benchmark, "part": row.split,
                "rows": row.rows, "failed": row.failed, "score": row.score, "loss": row.loss })
            })
            .collect();
        say!("{}", json!({ "examined": arguments.subject, "out": arguments.out, "figures": figures }));
    }
    Ok(ExitCode::SUCCESS)
}
