//! Plays a run again from a round on with other values: a fork shares all that came before.

use std::path::Path;
use std::time::Instant;

use super::RunError;
use super::execute::{Prepared, Settings};
use super::folder::RunFolder;
use super::guards::{refuse_plan, refuse_secret, what_changed};
use super::observer::Observer;
use crate::inputs::Shared;
use crate::ledger::Manifest;
use crate::results::Summary;
use crate::scenario::Loaded;

/// Where a fork departs from its run.
#[derive(Clone, Debug)]
pub struct Departure {
    /// [rounds] The first round of the server under the new values -- at least 2.
    pub at_round: u32,
    /// The new values, each `path=value`.
    pub sets: Vec<String>,
}

/// Plays a fork of the run in `run_folder` into `settings.out`: its scenario with one more change. The fork is a run like
/// any other, and has the digest of one that is played from its scenario in an empty store. What the two have in common
/// is found in the store that the run was played with.
///
/// # Errors
/// As [`super::execute`]; if a field cannot change in mid-run; and if data, base model or arithmetic are not those of the run.
pub fn fork(
    run_folder: &Path,
    departure: &Departure,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Summary, RunError> {
    let began = Instant::now();
    let manifest = Manifest::read(run_folder)?;
    refuse_plan(run_folder, &manifest)?;
    refuse_secret(run_folder, &manifest)?;
    let loaded = Loaded::fork_of_run(run_folder, &manifest.scenario_folder, departure.at_round, &departure.sets)?;
    let prepared = Prepared::new(&loaded, settings, &mut Shared::default())?;
    let now = prepared.manifest(&loaded);
    let then = Manifest { scenario_hash: now.scenario_hash, ..manifest };
    if (&then.inputs_by_hash(), &then.numerics_class) != (&now.inputs_by_hash(), &now.numerics_class) {
        let run = run_folder.display();
        return Err(RunError::Usage(format!("failed to fork {run}: {}", what_changed(&then, &now))));
    }
    let folder = RunFolder::create(&settings.out)?;
    prepared.play(&loaded, &folder, settings, observer, began)
}
