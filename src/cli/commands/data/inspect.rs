//! `fedreplay data inspect`: statistics of a dataset, as in Table 1 of FedLLM-Bench.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Reading;
use crate::cli::errors::CommandError;
use crate::cli::output::say;
use fedreplay::data::{Row, Ruler, SkippedRow, Tally, TokenizerError, twin_of};
use fedreplay::ledger::{ClientDataRow, write_table};
use fedreplay::run::refuse_inside_run;

#[derive(Args)]
pub struct DataInspectArguments {
    #[command(flatten)]
    reading: Reading,
    /// Folder of a tokenizer to count lengths in tokens, without template [default: words between white space].
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    /// Write one row per client to this Parquet file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Reads the dataset row by row and prints its statistics.
pub fn main(arguments: &DataInspectArguments) -> Result<ExitCode, CommandError> {
    if let Some(out) = &arguments.out {
        refuse_inside_run(out)?;
    }
    let ruler = Ruler::new(arguments.tokenizer.as_deref())?;
    let mut clients: Vec<ClientFigures> = Vec::new();
    // The walk cannot be stopped from inside, so the first failure is saved and later rows are ignored.
    let mut failed = None;
    let data = arguments.reading.walk(&mut |client, place, row| {
        if failed.is_some() {
            return;
        }
        if place == 0 {
            clients.push(ClientFigures { id: client.to_owned(), ..ClientFigures::default() });
        }
        let figures = clients.last_mut().expect("a client's first row came before");
        if let Err(what) = figures.add(&row, &ruler) {
            failed = Some(format!("failed to tokenise client {client:?}, row {place}: {what}"));
        }
    })?;
    if let Some(what) = failed {
        return Err(CommandError::Usage(what));
    }
    if let Some(path) = &arguments.out {
        let rows: Vec<_> = (0..).zip(&clients).map(|(client, figures)| figures.row(client)).collect();
        write_table(path, &rows)?;
    }
    let twin = clients.first().and_then(|client| twin_of(&client.id));
    let all = Total::of(&clients);
    all.print(data.kind, twin, &data.skipped, ruler.unit());
    if arguments.json {
        say!("{}", all.json(twin, &data.skipped, ruler.unit()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Statistics of one client's rows, in memory of constant size.
#[derive(Default)]
struct ClientFigures {
    id: String,
    instructions: Tally,
    responses: Tally,
    languages: BTreeMap<String, u64>,
}

impl ClientFigures {
    /// Counts a row.
    fn add(&mut self, row: &Row, ruler: &Ruler) -> Result<(), TokenizerError> {
        self.instructions.add(total_length(&row.asked(), ruler)?);
        self.responses.add(total_length(&row.answered(), ruler)?);
        if let Some(language) = row.attributes.get("language").and_then(|value| value.as_str()) {
            *self.languages.entry(language.to_owned()).or_default() += 1;
        }
        Ok(())
    }

    /// Returns the client's row of the table.
    fn row(&self, client: u32) -> ClientDataRow {
        let instructions = self.instructions.spread();
        let responses = self.responses.spread();
        let mix: Vec<String> = self.languages.iter().map(|(language, count)| format!("{language}:{count}")).collect();
        ClientDataRow {
            client,
            client_id: self.id.clone(),
            samples: self.instructions.count(),
            instruction_mean: instructions.mean,
            instruction_deviation: instructions.deviation,
            response_mean: responses.mean,
            response_deviation: responses.deviation,
            languages: mix.join(" "),
        }
    }
}

/// Returns the length of several texts together.
fn total_length(texts: &[&str], ruler: &Ruler) -> Result<u64, TokenizerError> {
    let mut total = 0;
    for text in texts {
        total += ruler.length(text)?;
    }
    Ok(total)
}

/// Statistics of all rows.
#[derive(Default)]
struct Total {
    samples: Tally,
    instructions: Tally,
    responses: Tally,
    languages: BTreeMap<String, u64>,
}

impl Total {
    /// Merges the statistics of all clients.
    fn of(clients: &[ClientFigures]) -> Self {
        let mut total = Self::default();
        for client in clients {
            total.samples.add(client.instructions.count());
            total.instructions.merge(client.instructions);
            total.responses.merge(client.responses);
            for (language, count) in &client.languages {
                *total.languages.entry(language.clone()).or_default() += count;
            }
        }
        total
    }

    /// Prints the statistics for people.
    fn print(&self, kind: impl std::fmt::Display, twin: Option<&str>, skipped: &[SkippedRow], unit: &str) {
        if let Some(twin) = twin {
            say!("note        a synthetic twin of {twin}: its text is generated");
        }
        say!("kind        {kind}");
        say!("clients     {}", self.samples.count());
        say!("samples     {}", self.samples.sum());
        say!("a client    {} samples", spread_text(&self.samples));
        say!("instruction {} {unit}", spread_text(&self.instructions));
        say!("response    {} {unit}", spread_text(&self.responses));
        for (reason, count) in by_reason(skipped) {
            say!("left out    {count} with {reason}");
        }
        if !self.languages.is_empty() {
            let mut languages: Vec<_> = self.languages.iter().collect();
            // The most frequent first; equal counts in the order of their names.
            languages.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
            let parts: Vec<String> = languages.iter().map(|(name, count)| format!("{name} {count}")).collect();
            say!("languages   {}", parts.join(", "));
        }
    }

    /// Returns the statistics as JSON.
    fn json(&self, twin: Option<&str>, skipped: &[SkippedRow], unit: &str) -> serde_json::Value {
        json!({
            "synthetic_twin_of": twin,
            "clients": self.samples.count(),
            "samples": self.samples.sum(),
            "samples_per_client": spread_json(&self.samples),
            "length_unit": unit,
            "instruction": spread_json(&self.instructions),
            "response": spread_json(&self.responses),
            "languages": self.languages,
            "skipped_rows": skipped.len(),
            "skipped_by_reason": by_reason(skipped),
        })
    }
}

/// Returns how many rows are left out for each reason.
fn by_reason(skipped: &[SkippedRow]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for row in skipped {
        *counts.entry(row.fault.reason().to_string()).or_default() += 1;
    }
    counts
}

/// Formats mean, deviation and range.
fn spread_text(tally: &Tally) -> String {
    let spread = tally.spread();
    format!("{:.0} ± {:.0}, {} to {}", spread.mean, spread.deviation, spread.min, spread.max)
}

/// Returns mean, deviation and range as JSON.
fn spread_json(tally: &Tally) -> serde_json::Value {
    let spread = tally.spread();
    json!({ "mean": spread.mean, "deviation": spread.deviation, "min": spread.min, "max": spread.max })
}
