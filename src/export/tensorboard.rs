//! Export of curves as TensorBoard event files, one over rounds and one over simulated time.

use std::collections::BTreeMap;
use std::path::Path;

use super::event_file::EventFile;
use super::write;
use crate::results::{Overview, Series};
use crate::run::RunError;

/// Name of the event files. TensorBoard recognizes them by `tfevents`.
const FILE: &str = "events.out.tfevents.0000000000.fedreplay";

/// Folder of the curves over simulated time, which also begins their names: TensorBoard draws curves of one name from
/// several folders in one chart, where rounds and milliseconds would share an axis.
const BY_TIME: &str = "by-simulated-millisecond";

/// Writes `by-round/` and `by-simulated-millisecond/` into the folder `out` and returns the number of scalars in each.
///
/// In both, the wall time of an event is its virtual time, so that TensorBoard's relative axis is simulated time, too.
///
/// # Errors
/// If the tables cannot be read, or a file cannot be written.
pub fn tensorboard(run_folder: &Path, out: &Path) -> Result<u64, RunError> {
    let overview = Overview::read(run_folder)?;
    let series = &overview.series;
    let points = series.iter().flat_map(|series| &series.points);
    let times = milliseconds(&points.map(|point| (point.round, point.at_ns)).collect());
    write(&out.join("by-round").join(FILE), &events(series, "", |round| round.into()))?;
    write(&out.join(BY_TIME).join(FILE), &events(series, &format!("{BY_TIME}/"), |round| times[&round]))?;
    Ok(overview.series.iter().map(|series| series.points.len() as u64).sum())
}

/// Returns the millisecond of each round's end [ms], from the ends [ns]. Rounds that end within one are a millisecond apart,
/// since TensorBoard shows one value per step.
fn milliseconds(ends: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
    let mut steps = BTreeMap::new();
    let mut free = 0;
    for (&round, &end) in ends {
        let step = (end / 1_000_000).max(free);
        free = step + 1;
        steps.insert(round, step);
    }
    steps
}

/// Returns an event file with all curves, each in the order of its rounds, under its name after `prefix`. `step` returns the
/// coordinate of a round.
fn events(series: &[Series], prefix: &str, step: impl Fn(u32) -> u64) -> Vec<u8> {
    let mut file = EventFile::new(0.0);
    for series in series {
        for point in &series.points {
            let name = format!("{prefix}{}", series.name);
            file.scalar(&name, step(point.round), point.at_ns as f64 / 1e9, point.value as f32);
        }
    }
    file.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_one_millisecond_keep_their_order_and_stay_apart() {
        let ends = BTreeMap::from([(0, 0), (1, 900_000), (2, 1_200_000), (3, 1_200_000), (4, 9_000_000_000)]);
        assert_eq!(milliseconds(&ends).into_values().collect::<Vec<_>>(), [0, 1, 2, 3, 9000]);
    }
}
