//! `fedreplay scenario explain`: the meaning of a scenario field.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::say;
use fedreplay::scenario::{Entry, Reference};

#[derive(Args)]
pub struct ScenarioExplainArguments {
    /// Path of a field, such as `server.protocol.deadline`; variants may be left out [default: the whole scenario].
    #[arg(default_value = "")]
    path: String,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the reference of the field and of the fields below it.
pub fn main(arguments: &ScenarioExplainArguments) -> Result<ExitCode, CommandError> {
    let found = Reference::new().explain(&arguments.path);
    let entries = found.map_err(|what| CommandError::Usage(format!("failed to explain {}: {what}", arguments.path)))?;
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            say!("");
        }
        print(entry);
    }
    if arguments.json {
        say!("{}", json!({ "path": arguments.path, "fields": entries }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one field or type.
fn print(entry: &Entry) {
    if !entry.path.is_empty() {
        say!("{}", entry.path);
    }
    if !entry.meaning.is_empty() {
        say!("  {}", entry.meaning);
    }
    say!("  type     {}", entry.kind);
    if let Some(unit) = &entry.unit {
        say!("  unit     {unit}");
    }
    if let Some(range) = &entry.range {
        say!("  range    {range}");
    }
    // Paths of fields end in a lowercase name, those of types and variants in an uppercase one.
    let is_field = entry.path.rsplit('.').next().is_some_and(|name| name.starts_with(char::is_lowercase));
    if entry.defaults.is_empty() && is_field {
        say!("  default  none: it must be given");
    }
    for default in &entry.defaults {
        let under = if default.under.is_empty() { String::new() } else { format!(" under {}", default.under) };
        say!("  default  {}{under}", default.value);
    }
    // Names are aligned up to this width; longer ones push their meaning to the right.
    let width = entry.parts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(32);
    for (name, meaning) in &entry.parts {
        say!("    {name:<width$}  {meaning}");
    }
}
