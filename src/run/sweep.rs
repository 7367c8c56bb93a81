//! Sweep: runs the cells of a sweep into one folder. Finished cells are not run again, and interrupted ones are resumed.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use fedreplay_sim::Seed;
use serde::Serialize;

use super::execute::{RunOptions, check, resume, run_sharing};
use super::guards::refuse_other_version;
use super::observer::Observer;
use super::{RunError, folder};
use crate::data::{BadRows, Federation, Twin, TwinSettings, write_split, write_twin};
use crate::graph::GraphError;
use crate::inputs::InputCache;
use crate::ledger::{LedgerError, Manifest, RunState};
use crate::results::Summary;
use crate::scenario::{Scenario, SweepCell, TwinFiles};

/// Finished cell of a sweep.
#[derive(Clone, Debug, Serialize)]
pub struct CellRun {
    /// Name of the scenario that the cell is based on; empty if there is only one.
    pub scenario: String,
    /// Name of the variant; empty if there are none.
    pub variant: String,
    pub setting: String,
    pub seed: u64,
    pub summary: Summary,
}

/// Observer of a sweep's progress.
pub trait SweepObserver {
    /// Called before the cells that are to be run, or run to their end, are checked; not if there are none.
    fn checking(&mut self, cells: usize);

    /// Returns the observer of the run that begins: cell `index` of `cells`, from 0.
    fn cell(&mut self, index: usize, cells: usize, cell: &SweepCell) -> &mut dyn Observer;
}

/// Runs the cells of a sweep that are missing in `out`, one after another. `options` returns the options of a run into a
/// folder, or an error of the caller's own type `E`, such as that of a store that cannot be opened.
///
/// # Errors
/// As [`super::run`], for the first cell that fails. Wrong scenarios, folders with other runs, and inputs that cannot be used are
/// reported before any cell is run; only the weights of base models and the machine are tested by each cell itself.
pub fn sweep<'a, E: From<RunError>>(
    cells: &[SweepCell],
    out: &Path,
    options: impl Fn(PathBuf) -> Result<RunOptions<'a>, E>,
    observer: &mut dyn SweepObserver,
) -> Result<Vec<CellRun>, E> {
    // All cells are checked before the first is run, so that a mistake in the last one does not show after hours.
    let mut scenarios = Vec::with_capacity(cells.len());
    for cell in cells {
        scenarios.push(Scenario::read(&cell.scenario, &cell.sets).map_err(RunError::from)?);
    }
    let mut states = Vec::with_capacity(cells.len());
    for (cell, scenario) in cells.iter().zip(&scenarios) {
        states.push(state(&out.join(&cell.folder), scenario)?);
    }
    let mut shared = InputCache::default();
    let missing = states.iter().filter(|&&state| state != Some(RunState::Done)).count();
    if missing > 0 {
        observer.checking(missing);
    }
    for ((cell, scenario), state) in cells.iter().zip(&scenarios).zip(&states) {
        if *state == Some(RunState::Done) {
            continue;
        }
        let options = options(out.join(&cell.folder))?;
        if options.stop.load(Ordering::Relaxed) {
            return Err(RunError::from(GraphError::Interrupted).into());
        }
        check(scenario, &options, &mut shared)
            .map_err(|error| RunError::Cell { folder: cell.folder.clone(), error: Box::new(error) })?;
    }
    let mut runs = Vec::with_capacity(cells.len());
    for (index, ((cell, scenario), state)) in cells.iter().zip(&scenarios).zip(states).enumerate() {
        let options = options(out.join(&cell.folder))?;
        if options.stop.load(Ordering::Relaxed) {
            return Err(RunError::from(GraphError::Interrupted).into());
        }
        let observer = observer.cell(index, cells.len(), cell);
        let summary = match state {
            None => run_sharing(scenario, &options, &mut shared, observer)?,
            Some(RunState::Running) => resume(&options, &[], observer)?,
            Some(RunState::Done) => finished(&options.out)?,
        };
        runs.push(CellRun {
            scenario: cell.base.clone(),
            variant: cell.variant.clone(),
            setting: cell.setting.clone(),
            seed: scenario.scenario.seed,
            summary,
        });
    }
    Ok(runs)
}

/// Seed of twins and of their splits. It is fixed, so that cells of all seeds share the data.
const TWIN_SEED: Seed = Seed(1);

/// Writes a sweep's synthetic twins. Existing files are overwritten: the same settings give the same bytes.
///
/// # Errors
/// If there is no such twin, or a file cannot be written.
pub fn write_twins(twins: &[TwinFiles]) -> Result<(), RunError> {
    for TwinFiles { twin, folder, length_scale, held_out } in twins {
        let Some(of) = Twin::named(twin) else {
            return Err(RunError::UnknownTwin { name: twin.clone() });
        };
        std::fs::create_dir_all(folder).map_err(LedgerError::io(folder))?;
        let whole = folder.join("twin.json");
        let settings = TwinSettings { seed: TWIN_SEED, length_scale: *length_scale };
        write_twin(of, settings, &whole).map_err(LedgerError::io(&whole))?;
        let data = Federation::read(&whole, BadRows::Refuse)?;
        write_split(&data, *held_out, TWIN_SEED, folder).map_err(LedgerError::io(folder))?;
    }
    Ok(())
}

/// Returns the figures of a cell's finished run.
///
/// # Errors
/// If its files are not those that it wrote, or the figures are those of another run.
fn finished(run: &Path) -> Result<Summary, RunError> {
    let manifest = Manifest::read(run)?;
    manifest.check(run)?;
    let summary = Summary::read(run)?;
    if manifest.digest != Some(summary.digest) {
        let reason = "timing/summary.json has the figures of a run with another digest";
        return Err(LedgerError::malformed(run, reason).into());
    }
    Ok(summary)
}

/// Returns the state of a cell's run; `None` if it has not begun.
fn state(run: &Path, scenario: &Scenario) -> Result<Option<RunState>, RunError> {
    if !folder::holds_run(run) {
        return Ok(None);
    }
    let manifest = Manifest::read(run)?;
    if manifest.scenario_hash != scenario.identity().0 {
        return Err(RunError::OtherScenario { folder: run.to_owned() });
    }
    // Its figures would stand beside those of other bits, and it cannot be continued.
    refuse_other_version("sweep over", run, &manifest)?;
    Ok(Some(manifest.state))
}
