//! The arguments of `fedreplay eval`.

use std::path::PathBuf;

use clap::Args;

use super::judge::JudgeArguments;
use super::run::CommonRunArguments;
use fedreplay::ledger::LOSSES;
use fedreplay::model::{Arithmetic, Precision};

#[derive(Args)]
pub struct EvalArguments {
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
    pub answer_tokens_max: Option<u32>,
    /// Run the programs that the model writes for HumanEval, in a sandbox; a host that cannot confine them is refused.
    #[arg(long)]
    pub allow_code_execution: bool,
    /// Round of the run whose adapters are evaluated [default: the last that was saved].
    #[arg(long, value_name = "N")]
    pub round: Option<u32>,
    /// PEFT folder of an adapter to apply to a model's folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "round")]
    pub adapter: Option<PathBuf>,
    /// Number format of a model's folder: f32, bf16, int8 or nf4; a run has its own.
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = precision)]
    pub precision: Precision,
    /// Folder to write the tables `evaluations` and `generations` to, and the published table as text and CSV [default:
    /// none, only the figures are printed].
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Prompt template for a model's folder: a template's name, or `chat` for the folder's own; a run has its own.
    #[arg(long, value_name = "NAME", default_value = "alpaca")]
    pub template: String,
    /// The current date to a chat template that asks for it, such as 2024-07-26; a run has its own.
    #[arg(long, value_name = "DATE")]
    pub template_date: Option<chrono::NaiveDate>,
    /// Prompt, sample, judge and aggregate as FedLLM-Bench's scripts do, defects included.
    #[arg(long)]
    pub as_published: bool,
    #[command(flatten)]
    pub judging: JudgeArguments,
    /// Print what would be requested, and request nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub run_args: CommonRunArguments,
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
