//! `fedreplay data split`: splits each client's rows into a training and a test file.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use fedreplay_sim::Seed;
use serde_json::json;

use super::{Reading, io};
use crate::cli::output::say;
use crate::dataset::{ClientData, Federation, hold_out};
use crate::run::RunError;
use crate::store::atomic;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    reading: Reading,
    /// Share of each client's rows that go to the test file, at least 0 and below 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    held_out: f64,
    /// Draws the rows; `data.held_out` of a scenario with this seed draws the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for train.json and test.json.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if (0.0..1.0).contains(&value) { Ok(value) } else { Err("it must be at least 0 and below 1".to_owned()) }
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let data = arguments.reading.federation()?;
    let split = |index: usize, client: &ClientData| {
        hold_out(Seed(arguments.seed), index as u64, client.rows.len(), arguments.held_out)
    };
    let splits: Vec<_> = data.clients.iter().enumerate().map(|(index, client)| split(index, client)).collect();
    let parts: [(&str, Vec<&[usize]>); 2] = [
        ("train.json", splits.iter().map(|split| &split.train[..]).collect()),
        ("test.json", splits.iter().map(|split| &split.held_out[..]).collect()),
    ];
    let mut written = serde_json::Map::new();
    for (name, rows) in parts {
        let path = arguments.out.join(name);
        std::fs::create_dir_all(&arguments.out).map_err(io(&arguments.out))?;
        write(&path, &data, &rows).map_err(io(&path))?;
        let (clients, count) =
            (rows.iter().filter(|rows| !rows.is_empty()).count(), rows.iter().map(|rows| rows.len()).sum::<usize>());
        say!("{:<28}{clients} clients, {count} rows", path.display());
        written.insert(name.to_owned(), json!({ "clients": clients, "rows": count }));
    }
    if arguments.json {
        say!("{}", json!({ "out": arguments.out, "files": written }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes these rows of each client in the federated form; clients without any are left out.
fn write(path: &Path, data: &Federation, rows: &[&[usize]]) -> std::io::Result<()> {
    atomic::write_with(path, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(b"{")?;
        let clients = data.clients.iter().zip(rows).filter(|(_, rows)| !rows.is_empty());
        for (number, (client, rows)) in clients.enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(out, "{comma}\n{}: [", serde_json::Value::from(client.id.as_str()))?;
            for (number, &row) in rows.iter().enumerate() {
                write!(out, "{}\n  {}", if number == 0 { "" } else { "," }, client.rows[row].to_json())?;
            }
            out.write_all(b"\n]")?;
        }
        out.write_all(b"\n}\n")?;
        out.flush()
    })
}
