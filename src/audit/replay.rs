//! Executes a finished run again, reading no results, and compares round by round.

use std::path::Path;

use crate::ledger::{Difference, Manifest, RunState, SCHEMA_VERSION, compare_rows};
use crate::run::{Observer, RunError, Settings, play, refuse_plan, refuse_secret, what_changed};
use crate::scenario::Loaded;
use crate::store::Store;

/// Plays the run in `run_folder` again into `settings.out` and returns the first difference, if there is one. Whatever
/// store the settings name, no result is read from it.
///
/// # Errors
/// As [`play`]; and if the run is not finished.
pub fn replay(
    run_folder: &Path,
    settings: Settings,
    observer: &mut dyn Observer,
) -> Result<Option<Difference>, RunError> {
    let (manifest, loaded) = replayable(run_folder)?;
    let settings = Settings { store: Store::none(), ..settings };
    play(&loaded, &settings, observer)?;
    let again = Manifest::read(&settings.out)?;
    if manifest.genesis != again.genesis {
        // Other inputs give other rows: the cause says more than the first of its effects.
        return Ok(Some(Difference(what_changed(&manifest, &again))));
    }
    let found = compare_rows(run_folder, &settings.out)?.map(|found| found.first);
    Ok(found.or_else(|| (manifest.digest != again.digest).then(|| Difference(what_changed(&manifest, &again)))))
}

/// The manifest and the scenario of a run that can be computed again.
///
/// # Errors
/// If it is not finished, trained nothing, had secret noise, or was made by another version of this program.
pub(super) fn replayable(run_folder: &Path) -> Result<(Manifest, Loaded), RunError> {
    let manifest = Manifest::read(run_folder)?;
    if manifest.state != RunState::Done {
        let run = run_folder.display();
        return Err(RunError::Usage(format!(
            "failed to replay {run}: it is not finished; `fedreplay resume` continues it"
        )));
    }
    refuse_plan(run_folder, &manifest)?;
    refuse_secret(run_folder, &manifest)?;
    refuse_other_version(run_folder, &manifest)?;
    let loaded = Loaded::of_run(run_folder, &manifest.scenario_folder, &[])?;
    Ok((manifest, loaded))
}

/// Refuses to replay what another version of this program recorded: the tables would differ, whatever was computed.
fn refuse_other_version(folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    let (folder, version) = (folder.display(), manifest.schema_version);
    match version {
        SCHEMA_VERSION => Ok(()),
        _ => Err(RunError::Usage(format!(
            "failed to replay {folder}: its tables have version {version}, and this program writes {SCHEMA_VERSION}; play \
             its scenario.ron again, or replay it with the program that made it"
        ))),
    }
}
