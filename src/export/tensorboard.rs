//! Export of curves as TensorBoard event files, one over rounds and one over simulated time.

use std::path::Path;

use super::event_file::EventFile;
use super::write;
use crate::run::{Overview, Point, RunError, Series};

/// Name of the event files. TensorBoard recognizes them by `tfevents`.
const FILE: &str = "events.out.tfevents.0000000000.fedreplay";

/// Function that returns the coordinate of a point on an axis.
type Step = fn(&Point) -> u64;

/// Writes `by-round/` and `by-simulated-second/` into the folder `out` and returns the number of scalars in each.
///
/// In both, the wall time of an event is its virtual time, so that TensorBoard's relative axis is simulated time, too.
///
/// # Errors
/// If the tables cannot be read, or a file cannot be written.
pub fn tensorboard(run_folder: &Path, out: &Path) -> Result<u64, RunError> {
    let overview = Overview::read(run_folder)?;
    for (name, step) in [("by-round", round as Step), ("by-simulated-second", nearest_second as Step)] {
        write(&out.join(name).join(FILE), &events(&overview.series, step))?;
    }
    Ok(overview.series.iter().map(|series| series.points.len() as u64).sum())
}

fn round(point: &Point) -> u64 {
    point.round.into()
}

fn nearest_second(point: &Point) -> u64 {
    (point.at_ns + 500_000_000) / 1_000_000_000
}

/// Returns an event file with all curves, each in the order of its rounds.
fn events(series: &[Series], step: Step) -> Vec<u8> {
    let mut file = EventFile::new(0.0);
    for series in series {
        for point in &series.points {
            file.scalar(&series.name, step(point), point.at_ns as f64 / 1e9, point.value as f32);
        }
    }
    file.into_bytes()
}
