//! `fedreplay data inspect`: a dataset's statistics in the manner of FedLLM-Bench's Table 1.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Reading;
use crate::cli::output::say;
use crate::data::{Row, Ruler, Tally, twin_of};
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
    let ruler = Ruler::new(arguments.tokenizer.as_deref())?;
    let mut clients: Vec<ClientFigures> = Vec::new();
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
        return Err(RunError::Usage(what));
    }
    if let Some(path) = &arguments.out {
        let rows: Vec<_> = (0..).zip(&clients).map(|(client, figures)| figures.row(client)).collect();
        write_table(path, &rows)?;
    }
    let twin = clients.first().and_then(|client| twin_of(&client.id));
    let all = Total::of(&clients);
    all.print(data.kind, twin, data.skipped.len(), ruler.unit());
    if arguments.json {
        say!("{}", all.json(twin, data.skipped.len(), ruler.unit()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the rows of a client come to, in memory that does not grow with them.
#[derive(Default)]
struct ClientFigures {
    id: String,
    instructions: Tally,
    responses: Tally,
    languages: BTreeMap<String, u64>,
}

impl ClientFigures {
    fn add(&mut self, row: &Row, ruler: &Ruler) -> Result<(), String> {
        let length = |texts: Vec<&str>| texts.into_iter().map(|text| ruler.length(text)).sum::<Result<u64, _>>();
        self.instructions.add(length(row.asked())?);
        self.responses.add(length(row.answered())?);
        if let Some(language) = row.attributes.get("language").and_then(|value| value.as_str()) {
            *self.languages.entry(language.to_owned()).or_default() += 1;
        }
        Ok(())
    }

    fn row(&self, client: u32) -> ClientDataRow {
        let (asked, answered) = (self.instructions.spread(), self.responses.spread());
        let mix: Vec<String> = self.languages.iter().map(|(language, count)| format!("{language}:{count}")).collect();
        ClientDataRow {
            client,
            client_id: self.id.clone(),
            samples: self.instructions.count(),
            instruction_mean: asked.mean,
            instruction_deviation: asked.deviation,
            response_mean: answered.mean,
            response_deviation: answered.deviation,
            languages: mix.join(" "),
        }
    }
}

/// What all rows come to.
#[derive(Default)]
struct Total {
    samples: Tally,
    instructions: Tally,
    responses: Tally,
    languages: BTreeMap<String, u64>,
}

impl Total {
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

    fn print(&self, kind: impl std::fmt::Display, twin: Option<&str>, skipped: usize, unit: &str) {
        let spread = |tally: &Tally| {
            let spread = tally.spread();
            format!("{:.0} ± {:.0}, {} to {}", spread.mean, spread.deviation, spread.min, spread.max)
        };
        if let Some(twin) = twin {
            say!("note        a synthetic twin of {twin}: its text is generated");
        }
        say!("kind        {kind}");
        say!("clients     {}", self.samples.count());
        say!("samples     {}", self.samples.sum());
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
        let spread = |tally: &Tally| {
            let spread = tally.spread();
            json!({ "mean": spread.mean, "deviation": spread.deviation, "min": spread.min, "max": spread.max })
        };
        json!({
            "synthetic_twin_of": twin,
            "clients": self.samples.count(),
            "samples": self.samples.sum(),
            "samples_per_client": spread(&self.samples),
            "length_unit": unit,
            "instruction": spread(&self.instructions),
            "response": spread(&self.responses),
            "languages": self.languages,
            "skipped_rows": skipped,
        })
    }
}
