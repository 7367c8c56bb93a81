//! `fedreplay model`: model folders.

mod import;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use fedreplay::run::RunError;

#[derive(Args)]
pub struct ModelArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the model in a GGUF file of llama.cpp as a Hugging Face folder, with tokenizer and chat template.
    Import(import::ModelImportArguments),
}

pub fn main(arguments: &ModelArguments) -> Result<ExitCode, RunError> {
    match &arguments.command {
        Command::Import(arguments) => import::main(arguments),
    }
}
