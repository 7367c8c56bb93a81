//! `fedreplay model`: model folders.

mod import;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::errors::CommandError;

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

pub fn main(arguments: &ModelArguments) -> Result<ExitCode, CommandError> {
    match &arguments.command {
        Command::Import(arguments) => import::main(arguments),
    }
}
