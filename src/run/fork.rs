//! Fork of a run: the same scenario with other values from a round on, which shares everything before that round.

use std::path::Path;
use std::time::Instant;

use super::error::RunError;
use super::execute::{Prepared, RunOptions};
use super::folder::RunFolder;
use super::guards::{refuse_other_version, refuse_plan, refuse_secret, scenario_of, what_changed};
use super::observer::Observer;
use crate::inputs::InputCache;
use crate::ledger::Manifest;
use crate::results::Summary;
use crate::scenario::Scenario;

/// Point at which a fork departs from its run, and the new values.
#[derive(Clone, Debug)]
pub struct ForkPoint {
    /// [rounds] -- First round of the server with the new values; at least 2.
    pub at_round: u32,
    /// New values, each as `path=value`.
    pub sets: Vec<String>,
}

/// Runs a fork of the run in `run_folder` into `options.out`: its scenario with one more change. The fork is a run like any
/// other, with the digest that its scenario gives in an empty store. Results that the two have in common are read from the
/// store of the original run.
///
/// # Errors
/// As [`super::run`]; if a field cannot change during a run; and if scenario, data, base model or arithmetic differ from the
/// run's.
pub fn fork(
    run_folder: &Path,
    point: &ForkPoint,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Summary, RunError> {
    let began = Instant::now();
    let manifest = Manifest::read(run_folder)?;
    refuse_plan("fork", run_folder, &manifest)?;
    refuse_other_version("fork", run_folder, &manifest)?;
    refuse_secret("fork", run_folder, &manifest)?;
    scenario_of(run_folder, &manifest)?;
    let scenario = Scenario::fork_of_run(run_folder, &manifest.scenario_folder, point.at_round, &point.sets)?;
    let prepared = Prepared::new(&scenario, options, &mut InputCache::default())?;
    let now = prepared.manifest(&scenario);
    let then = Manifest { scenario_hash: now.scenario_hash, ..manifest };
    if (&then.inputs_by_hash(), &then.numerics_class) != (&now.inputs_by_hash(), &now.numerics_class) {
        let change = what_changed(&then, &now);
        return Err(RunError::Changed { action: "fork", run: run_folder.to_owned(), change });
    }
    let folder = RunFolder::create(&options.out)?;
    prepared.run(&scenario, &folder, options, observer, began)
}
