//! Export for Weights & Biases: a folder `offline-run-ID`, which `wandb sync` uploads (it skips folders of other names), and the
//! same curves, summary and configuration as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

use super::run_log::{LoggedRun, RunLog};
use super::write;
use crate::ledger::Manifest;
use crate::results::Overview;
use crate::run::{RunError, scenario_of};

/// Project of a run at the server, unless `wandb sync` is given another.
const PROJECT: &str = "fedreplay";

/// Writes `offline-run-ID/run-ID.wandb`, `wandb-history.jsonl`, `wandb-summary.json` and `config.json` into the folder `out` and returns the
/// number of steps, which are rounds. ID is the beginning of the run's digest.
///
/// Times are the time at which the run's scenario was written plus simulated time.
///
/// # Errors
/// If the run cannot be read, or a file cannot be written.
pub fn wandb(run_folder: &Path, out: &Path) -> Result<u64, RunError> {
    let overview = Overview::read(run_folder)?;
    let manifest = Manifest::read(run_folder)?;
    let loaded = scenario_of(run_folder, &manifest)?;
    let began = began(run_folder);
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
                line.insert("_timestamp".into(), json!(began as f64 + seconds));
            }
            line.insert(series.name.clone(), json!(point.value));
            // Points are in the order of rounds, so the last value of each curve remains.
            summary.insert(series.name.clone(), json!(point.value));
        }
    }
    summary.insert("digest".into(), json!(overview.essentials.digest));
    summary.insert("_step".into(), json!(lines.keys().last()));
    let simulated_s = overview.essentials.simulated_ns as f64 / 1e9;
    summary.insert("_runtime".into(), json!(simulated_s));
    let Value::Object(config) = json!(loaded.scenario) else { unreachable!("a scenario is an object") };
    let config: Vec<(String, Value)> = config.into_iter().collect();
    let id = manifest.digest.unwrap_or(manifest.genesis).to_string()[..ID].to_owned();
    let mut log = RunLog::new(&LoggedRun { id: &id, project: PROJECT, name: &manifest.name, began, config: &config });
    for (round, line) in &lines {
        log.step(*round, line.iter());
    }
    write(&out.join(format!("offline-run-{id}/run-{id}.wandb")), &log.finish(summary.iter(), simulated_s as u64))?;
    let history: String = lines.values().map(|line| format!("{}\n", json!(line))).collect();
    write(&out.join("wandb-history.jsonl"), history.as_bytes())?;
    write(&out.join("wandb-summary.json"), pretty(&summary.into()).as_bytes())?;
    write(&out.join("config.json"), pretty(&json!(loaded.scenario)).as_bytes())?;
    Ok(lines.len() as u64)
}

/// Length of a run's name at the server.
const ID: usize = 8;

/// [s] -- Returns when the run began, since 1970: when its scenario was written; 0 if that is not known.
fn began(run_folder: &Path) -> u64 {
    let written = std::fs::metadata(run_folder.join("scenario.ron")).and_then(|file| file.modified());
    written.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value has only text keys") + "\n"
}
