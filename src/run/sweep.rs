//! Plays the cells of a sweep into one folder, each once: what is finished stays, what was interrupted goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::play::{Observer, Settings, play_sharing, resume};
use super::shared::Shared;
use super::summary::Summary;
use super::{RunError, folder};
use crate::ledger::{Manifest, RunState};
use crate::lineage::OrderError;
use crate::scenario::{Cell, Loaded, Sweep};

/// A finished cell.
#[derive(Clone, Debug, Serialize)]
pub struct CellRun {
    pub setting: String,
    pub seed: u64,
    pub summary: Summary,
}

/// Watches a sweep.
pub trait SweepObserver {
    /// The watcher of the run that begins now: cell `index` of `cells`, from 0.
    fn cell(&mut self, index: usize, cells: usize, cell: &Cell) -> &mut dyn Observer;
}

/// Plays what is missing of a sweep into `out`, cell after cell. `settings` gives those of a run into a folder.
///
/// # Errors
/// As [`super::play`], for the first cell that fails; before any is played, where one of the scenarios is wrong or a folder
/// holds another run.
pub fn sweep<'a>(
    sweep: &Sweep,
    out: &Path,
    settings: impl Fn(PathBuf) -> Result<Settings<'a>, RunError>,
    observer: &mut dyn SweepObserver,
) -> Result<Vec<CellRun>, RunError> {
    let cells = sweep.cells();
    // All are read before the first is played: a mistake in the last should not show after hours.
    let loaded = cells.iter().map(|cell| Loaded::read(&sweep.scenario, &cell.sets)).collect::<Result<Vec<_>, _>>()?;
    let states = cells.iter().zip(&loaded).map(|(cell, loaded)| state(&out.join(&cell.folder), loaded));
    let states = states.collect::<Result<Vec<_>, _>>()?;
    let mut shared = Shared::default();
    let mut runs = Vec::with_capacity(cells.len());
    for (index, ((cell, loaded), state)) in cells.iter().zip(&loaded).zip(states).enumerate() {
        let settings = settings(out.join(&cell.folder))?;
        if settings.stop.load(Ordering::Relaxed) {
            return Err(OrderError::Interrupted.into());
        }
        let observer = observer.cell(index, cells.len(), cell);
        let summary = match state {
            None => play_sharing(loaded, &settings, &mut shared, observer)?,
            Some(RunState::Running) => resume(&settings, &[], observer)?,
            Some(RunState::Done) => Summary::read(&settings.out)?,
        };
        runs.push(CellRun { setting: cell.setting.clone(), seed: loaded.scenario.seed, summary });
    }
    Ok(runs)
}

/// How far the run of a cell is; none if it has not begun.
fn state(run: &Path, loaded: &Loaded) -> Result<Option<RunState>, RunError> {
    if !folder::holds_run(run) {
        return Ok(None);
    }
    let manifest = Manifest::read(run)?;
    if manifest.scenario_hash != loaded.identity().0 {
        return Err(RunError::Usage(format!(
            "failed to sweep into {}: it holds a run of another scenario; choose another --out, or remove it",
            run.display()
        )));
    }
    Ok(Some(manifest.state))
}
