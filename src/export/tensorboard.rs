//! Curves as TensorBoard's event files, one against rounds and one against simulated time.

use std::path::Path;

use super::event_file::EventFile;
use super::write;
use crate::results::{Overview, Point, Series};
use crate::run::RunError;

/// TensorBoard finds files by this part of their names.
const FILE: &str = "events.out.tfevents.0000000000.fedreplay";

/// Where a point stands on an axis.
type Step = fn(&Point) -> u64;

/// Writes `by-round/` and `by-simulated-second/` into the folder `out` and returns how many scalars each has.
///
/// In both, the wall time of an event is its virtual time, so that TensorBoard's relative axis is simulated time too.
///
/// # Errors
/// If the tables cannot be read, or a file cannot be written.
pub fn tensorboard(run_folder: &Path, out: &Path) -> Result<u64, RunError> {
    let overview = Overview::read(run_folder)?;
    let by_round: Step = |point| point.round.into();
    let by_second: Step = |point| (point.at_ns + 500_000_000) / 1_000_000_000;
    for (name, step) in [("by-round", by_round), ("by-simulated-second", by_second)] {
        write(&out.join(name).join(FILE), &events(&overview.series, step))?;
    }
    Ok(overview.series.iter().map(|series| series.points.len() as u64).sum())
}

/// All curves, each in the order of its rounds.
fn events(series: &[Series], step: Step) -> Vec<u8> {
    let mut file = EventFile::new(0.0);
    for series in series {
        for point in &series.points {
            file.scalar(&series.name, step(point), point.at_ns as f64 / 1e9, point.value as f32);
        }
    }
    file.into_bytes()
}
