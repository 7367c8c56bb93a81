//! `fedreplay data inspect`: a dataset's statistics in the manner of FedLLM-Bench's Table 1.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Reading;
use crate::cli::output::say;
use crate::dataset::{ClientData, Ruler, Spread, twin_of};
use crate::ledger::{ClientDataRow, write_table};
use crate::run::RunError;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    reading: Reading,
    /// Folder of a tokenizer to count lengths in tokens, without template; else they are words between white space.
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    /// Write one row a client to this Parquet file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let data = arguments.reading.federation()?;
    let ruler = Ruler::new(arguments.tokenizer.as_deref())?;
    let mut figures = Figures::default();
    let rows = data.clients.iter().map(|client| figures.add(client, &ruler)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &arguments.out {
        write_table(path, &rows)?;
    }
    let twin = data.clients.first().and_then(|client| twin_of(&client.id));
    figures.print(data.kind, twin, data.skipped.len(), ruler.unit());
    if arguments.json {
        say!("{}", figures.json(twin, data.skipped.len(), ruler.unit()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What all rows come to.
#[derive(Default)]
struct Figures {
    samples: Vec<u64>,
    instructions: Vec<u64>,
    responses: Vec<u64>,
    languages: BTreeMap<String, u64>,
}

impl Figures {
    fn add(&mut self, client: &ClientData, ruler: &Ruler) -> Result<ClientDataRow, RunError> {
        let first = self.instructions.len();
        let mut languages: BTreeMap<String, u64> = BTreeMap::new();
        for row in &client.rows {
            let length = |texts: Vec<&str>| {
                let length = texts.into_iter().map(|text| ruler.length(text)).sum::<Result<u64, _>>();
                length.map_err(|what| RunError::Usage(format!("failed to tokenise a row: {what}")))
            };
            self.instructions.push(length(row.asked())?);
            self.responses.push(length(row.answered())?);
            if let Some(language) = row.attributes.get("language").and_then(|value| value.as_str()) {
                *languages.entry(language.to_owned()).or_default() += 1;
            }
        }
        self.samples.push(client.rows.len() as u64);
        for (language, count) in &languages {
            *self.languages.entry(language.clone()).or_default() += count;
        }
        let (asked, answered) = (Spread::of(&self.instructions[first..]), Spread::of(&self.responses[first..]));
        let mix: Vec<String> = languages.iter().map(|(language, count)| format!("{language}:{count}")).collect();
        Ok(ClientDataRow {
            client: (self.samples.len() - 1) as u32,
            client_id: client.id.clone(),
            samples: client.rows.len() as u64,
            instruction_mean: asked.mean,
            instruction_deviation: asked.deviation,
            response_mean: answered.mean,
            response_deviation: answered.deviation,
            languages: mix.join(" "),
        })
    }

    fn print(&self, kind: impl std::fmt::Display, twin: Option<&str>, skipped: usize, unit: &str) {
        let spread = |values: &[u64]| {
            let spread = Spread::of(values);
            format!("{:.0} ± {:.0}, {} to {}", spread.mean, spread.deviation, spread.min, spread.max)
        };
        if let Some(twin) = twin {
            say!("note        a synthetic twin of {twin}: its text is generated");
        }
        say!("kind        {kind}");
        say!("clients     {}", self.samples.len());
        say!("samples     {}", self.samples.iter().sum::<u64>());
        say!("a client    {} samples", spread(&self.samples));
        say!("instruction {} {unit}", spread(&self.instructions));
        say!("response    {} {unit}", spread(&self.responses));
        if skipped > 0 {
            say!("left out    {skipped} rows that cannot be used");
        }
        if !self.languages.is_empty() {
            let mut languages: Vec<_> = self.languages.iter().collect();
            languages.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
            let parts: Vec<String> = languages.iter().map(|(name, count)| format!("{name} {count}")).collect();
            say!("languages   {}", parts.join(", "));
        }
    }

    fn json(&self, twin: Option<&str>, skipped: usize, unit: &str) -> serde_json::Value {
        let spread = |values: &[u64]| {
            let spread = Spread::of(values);
            json!({ "mean": spread.mean, "deviation": spread.deviation, "min": spread.min, "max": spread.max })
        };
        json!({
            "synthetic_twin_of": twin,
            "clients": self.samples.len(),
            "samples": self.samples.iter().sum::<u64>(),
            "samples_per_client": spread(&self.samples),
            "length_unit": unit,
            "instruction": spread(&self.instructions),
            "response": spread(&self.responses),
            "languages": self.languages,
            "skipped_rows": skipped,
        })
    }
}
