//! Executes a finished run again, reading no results, and compares round by round.

use std::path::Path;

use super::RunError;
use super::play::{Observer, Settings, play, refuse_plan, refuse_secret, what_changed};
use crate::ledger::{Difference, Manifest, RunState, compare};
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
    let manifest = Manifest::read(run_folder)?;
    if manifest.state != RunState::Done {
        let run = run_folder.display();
        return Err(RunError::Usage(format!(
            "failed to replay {run}: it is not finished; `fedreplay resume` continues it"
        )));
    }
    refuse_plan(run_folder, &manifest)?;
    refuse_secret(run_folder, &manifest)?;
    let loaded = Loaded::of_run(run_folder, &manifest.scenario_folder, &[])?;
    let settings = Settings { store: Store::none(), ..settings };
    play(&loaded, &settings, observer)?;
    let again = Manifest::read(&settings.out)?;
    if manifest.genesis != again.genesis {
        // Other inputs give other rows: the cause says more than the first of its effects.
        return Ok(Some(Difference(what_changed(&manifest, &again))));
    }
    let found = compare(run_folder, &settings.out)?;
    Ok(found.or_else(|| (manifest.digest != again.digest).then(|| Difference(what_changed(&manifest, &again)))))
}
