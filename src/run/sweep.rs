//! Plays the cells of a sweep into one folder, each once: what is finished stays, what was interrupted goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use fedreplay_sim::Seed;
use serde::Serialize;

use super::execute::{Settings, play_sharing, resume};
use super::observer::Observer;
use super::{RunError, folder};
use crate::data::{BadRows, Federation, Twin, TwinSettings, write_split, write_twin};
use crate::graph::OrderError;
use crate::inputs::Shared;
use crate::ledger::{LedgerError, Manifest, RunState};
use crate::results::Summary;
use crate::scenario::{Cell, Loaded, TwinFiles};

/// A finished cell.
#[derive(Clone, Debug, Serialize)]
pub struct CellRun {
    /// Name of the scenario that it started from; empty where there is but one.
    pub scenario: String,
    /// Name of its variant; empty where there are none.
    pub variant: String,
    pub setting: String,
    pub seed: u64,
    pub summary: Summary,
}

/// Watches a sweep.
pub trait SweepObserver {
    /// The watcher of the run that begins now: cell `index` of `cells`, from 0.
    fn cell(&mut self, index: usize, cells: usize, cell: &Cell) -> &mut dyn Observer;
}

/// Plays what is missing of a sweep's cells into `out`, one after another. `settings` gives those of a run into a folder.
///
/// # Errors
/// As [`super::execute`], for the first cell that fails; before any is played, where one of the scenarios is wrong or a folder
/// holds another run.
pub fn sweep<'a>(
    cells: &[Cell],
    out: &Path,
    settings: impl Fn(PathBuf) -> Result<Settings<'a>, RunError>,
    observer: &mut dyn SweepObserver,
) -> Result<Vec<CellRun>, RunError> {
    // All are read before the first is played: a mistake in the last should not show after hours.
    let loaded = cells.iter().map(|cell| Loaded::read(&cell.scenario, &cell.sets)).collect::<Result<Vec<_>, _>>()?;
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
        runs.push(CellRun {
            scenario: cell.base.clone(),
            variant: cell.variant.clone(),
            setting: cell.setting.clone(),
            seed: loaded.scenario.seed,
            summary,
        });
    }
    Ok(runs)
}

/// Seed of twins and of their splits: cells of all seeds share the data.
const TWIN_SEED: Seed = Seed(1);

/// Writes a sweep's synthetic twins. Each is written anew: the same settings give the same bytes.
///
/// # Errors
/// If there is no such twin, or what the file system says.
pub fn write_twins(twins: &[TwinFiles]) -> Result<(), RunError> {
    for TwinFiles { twin, folder, length_scale, held_out } in twins {
        let known = || Twin::all().iter().map(|twin| twin.name).collect::<Vec<_>>().join(", ");
        let of = Twin::named(twin)
            .ok_or_else(|| RunError::Usage(format!("failed to make a twin `{twin}`: known are {}", known())))?;
        std::fs::create_dir_all(folder).map_err(LedgerError::io(folder))?;
        let whole = folder.join("twin.json");
        let settings = TwinSettings { seed: TWIN_SEED, length_scale: *length_scale };
        write_twin(of, settings, &whole).map_err(LedgerError::io(&whole))?;
        let data = Federation::read(&whole, BadRows::Refuse)?;
        write_split(&data, *held_out, TWIN_SEED, folder).map_err(LedgerError::io(folder))?;
    }
    Ok(())
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
