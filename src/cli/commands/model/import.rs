//! `fedreplay model import`: writes the model in a GGUF file as a Hugging Face folder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{say, shown};
use fedreplay::model::gguf::{ImportOptions, WeightType, import};
use fedreplay::run::refuse_inside_run;

#[derive(Args)]
pub struct ModelImportArguments {
    /// GGUF file: Llama, Mistral, Qwen2, Qwen3, Gemma 3 or Phi-3, in F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K,
    /// Q5_K or Q6_K.
    file: PathBuf,
    /// Folder to write; it must not exist or be empty.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Type of all weights. By default none loses anything: F16 and BF16 stay, everything else becomes F32.
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Name of the pre-tokenizer as in llama.cpp, such as qwen2, for a file that has none or a wrong one.
    #[arg(long, value_name = "NAME")]
    pre_tokenizer: Option<String>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Types of weights, as typed.
#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

impl From<Dtype> for WeightType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

/// Imports the file and prints what it was.
pub fn main(arguments: &ModelImportArguments) -> Result<ExitCode, CommandError> {
    let options =
        ImportOptions { dtype: arguments.dtype.map(WeightType::from), pre_tokenizer: arguments.pre_tokenizer.clone() };
    refuse_inside_run(&arguments.out)?;
    let summary = ProgressDisplay::during("reading weights", || import(&arguments.file, &arguments.out, &options))?;
    let formats: Vec<_> = summary.formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
    let template = if summary.has_chat_template { "yes" } else { "none in the file" };
    say!("wrote         {}", arguments.out.display());
    say!("architecture  {}", summary.architecture);
    say!("weights       {} ({} tensors), written as {}", summary.parameters, formats.join(", "), summary.dtype);
    say!("tokenizer     {} tokens, {}", summary.tokens, summary.tokenizer);
    say!("chat template {template}");
    if !summary.named_chat_templates.is_empty() {
        say!("by name       {}, in additional_chat_templates", summary.named_chat_templates.join(", "));
    }
    if arguments.json {
        let line = json!({
            "out": shown(&arguments.out),
            "architecture": summary.architecture,
            "parameters": summary.parameters,
            "formats": summary.formats.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "dtype": summary.dtype,
            "tokens": summary.tokens,
            "tokenizer": summary.tokenizer,
            "chat_template": summary.has_chat_template,
            "named_chat_templates": summary.named_chat_templates,
        });
        say!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}
