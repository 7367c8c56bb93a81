//! Replay of a finished run: executes it again without stored results and compares the two runs round by round.

use std::path::Path;

use crate::ledger::{Difference, Manifest, RunState, compare_rows};
use crate::run::{
    Observer, RunError, RunOptions, Unsuitability, check_record, refuse_other_version, refuse_plan, refuse_secret, run,
    what_changed,
};
use crate::scenario::Scenario;
use crate::store::Store;

/// Executes the run in `run_folder` again into `options.out` and returns the first difference, if there is one: in the rows,
/// or in the files that follow from them, such as saved adapters. The store of the options is not used.
///
/// # Errors
/// As [`run`]; and if the run is not finished.
pub fn replay(
    run_folder: &Path,
    options: RunOptions,
    observer: &mut dyn Observer,
) -> Result<Option<Difference>, RunError> {
    let (manifest, scenario) = replayable(run_folder)?;
    let options = RunOptions { store: Store::none(), ..options };
    run(&scenario, &options, observer)?;
    let again = Manifest::read(&options.out)?;
    if manifest.genesis != again.genesis {
        // Different inputs give different rows, and naming the input says more than the first row that differs.
        return Ok(Some(Difference(what_changed(&manifest, &again).to_string())));
    }
    if let Some(found) = compare_rows(run_folder, &options.out)? {
        return Ok(Some(found.first));
    }
    if manifest.digest != again.digest {
        return Ok(Some(Difference("manifest.json: its digest is not that of the rows".into())));
    }
    if let Some(found) = check_record(run_folder, &manifest)?.into_iter().next() {
        return Ok(Some(found));
    }
    if manifest.left_out != again.left_out {
        let found = "manifest.json: it says that other rows of the data were left out";
        return Ok(Some(Difference(found.into())));
    }
    Ok(None)
}

/// Returns the manifest and the scenario of a run that can be computed again.
///
/// # Errors
/// If the run is not finished, trained nothing, had secret noise, or was made by another version of this program.
pub(super) fn replayable(run_folder: &Path) -> Result<(Manifest, Scenario), RunError> {
    let manifest = Manifest::read(run_folder)?;
    if manifest.state != RunState::Done {
        let reason = Unsuitability::Unfinished;
        return Err(RunError::Unsuitable { action: "replay", run: run_folder.to_owned(), reason });
    }
    refuse_plan("replay", run_folder, &manifest)?;
    refuse_secret("replay", run_folder, &manifest)?;
    refuse_other_version("replay", run_folder, &manifest)?;
    let scenario = Scenario::of_run(run_folder, &manifest.scenario_folder, &[])?;
    Ok((manifest, scenario))
}
