//! `fedreplay data twin`: generates a synthetic twin of one of FedLLM-Bench's datasets.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fedreplay_sim::Seed;
use serde_json::json;

use super::io;
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{say, shown};
use fedreplay::data::{Twin, TwinSettings, write_twin};
use fedreplay::run::refuse_inside_run;

#[derive(Args)]
pub struct DataTwinArguments {
    /// fed-aya, fed-chatbot-it, fed-wildchat, fed-wildchat-multi or fed-chatbot-pa.
    #[arg(value_parser = named)]
    name: &'static Twin,
    /// File to write; its manifest is written next to it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Another seed gives another twin with the same figures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Factor on the lengths of all texts, above 0 and at most 1, for models with a short context.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = scale)]
    length_scale: f64,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Looks up a twin by its name.
fn named(name: &str) -> Result<&'static Twin, String> {
    Twin::named(name).ok_or_else(|| {
        let known: Vec<_> = Twin::all().iter().map(|twin| twin.name).collect();
        format!("known are {}", known.join(", "))
    })
}

/// Parses the factor on lengths.
fn scale(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if value > 0.0 && value <= 1.0 { Ok(value) } else { Err("it must be above 0 and at most 1".to_owned()) }
}

/// Writes the twin and prints its size.
pub fn main(arguments: &DataTwinArguments) -> Result<ExitCode, CommandError> {
    refuse_inside_run(&arguments.out)?;
    let settings = TwinSettings { seed: Seed(arguments.seed), length_scale: arguments.length_scale };
    let manifest = ProgressDisplay::during("writing generated text", || {
        write_twin(arguments.name, settings, &arguments.out).map_err(io(&arguments.out))
    })?;
    say!("wrote       {}", arguments.out.display());
    say!("clients     {}", manifest.clients);
    say!("samples     {}", manifest.samples);
    say!("note        {}", manifest.notice);
    if arguments.json {
        let line = json!({
            "out": shown(&arguments.out),
            "clients": manifest.clients,
            "samples": manifest.samples,
            "note": manifest.notice,
        });
        say!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}
