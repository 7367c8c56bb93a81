//! Export for Weights & Biases: one JSON object per round, a summary, and the scenario as configuration.
//!
//! The file names are those in which its client stored the history of a run. `docs/tutorial.md` shows how to log them
//! to a server.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::write;
use crate::ledger::Manifest;
use crate::results::Overview;
use crate::run::RunError;
use crate::scenario::Scenario;

/// Writes `wandb-history.jsonl`, `wandb-summary.json` and `config.json` into the folder `out` and returns the number of
/// lines of the history.
///
/// # Errors
/// If the run cannot be read, or a file cannot be written.
pub fn wandb(run_folder: &Path, out: &Path) -> Result<u64, RunError> {
    let overview = Overview::read(run_folder)?;
    let manifest = Manifest::read(run_folder)?;
    let loaded = Scenario::of_run(run_folder, &manifest.scenario_folder, &[])?;
    let mut lines: BTreeMap<u32, Map<String, Value>> = BTreeMap::new();
    let mut summary = Map::new();
    for series in &overview.series {
        for point in &series.points {
            let seconds = point.at_ns as f64 / 1e9;
            let line = lines.entry(point.round).or_default();
            if line.is_empty() {
                // The columns of the client itself come first; its axes of time then show simulated time.
                line.insert("_step".into(), json!(point.round));
                line.insert("_runtime".into(), json!(seconds));
                line.insert("_timestamp".into(), json!(seconds));
            }
            line.insert(series.name.clone(), json!(point.value));
            // Points are in the order of rounds, so the last value of each curve remains.
            summary.insert(series.name.clone(), json!(point.value));
        }
    }
    summary.insert("digest".into(), json!(overview.essentials.digest));
    summary.insert("_step".into(), json!(lines.keys().last()));
    summary.insert("_runtime".into(), json!(overview.essentials.simulated_ns as f64 / 1e9));
    let history: String = lines.values().map(|line| format!("{}\n", json!(line))).collect();
    write(&out.join("wandb-history.jsonl"), history.as_bytes())?;
    write(&out.join("wandb-summary.json"), pretty(&summary.into()).as_bytes())?;
    write(&out.join("config.json"), pretty(&json!(loaded.scenario)).as_bytes())?;
    Ok(lines.len() as u64)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value has only text keys") + "\n"
}
