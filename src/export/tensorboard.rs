//! Export of curves as TensorBoard event files, one over rounds and one over simulated time.
//!
//! An event file holds protobuf messages in length-prefixed records with masked CRC-32C checksums. Of the messages
//! `tensorflow.Event` and `tensorflow.Summary` only the fields that scalars need are written.

use std::collections::BTreeMap;
use std::path::Path;

use super::protobuf::{delimited, double, single, whole};
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

/// Event file in memory.
pub struct EventFile {
    bytes: Vec<u8>,
}

impl EventFile {
    /// Creates a file with its opening event, at `wall_time` in s.
    pub fn new(wall_time: f64) -> Self {
        let mut file = Self { bytes: Vec::new() };
        // Event { wall_time = 1, file_version = 3 }
        let mut event = double(1, wall_time);
        event.extend(delimited(3, b"brain.Event:2"));
        file.record(&event);
        file
    }

    /// Appends a scalar under `tag`, at `wall_time` in s. TensorBoard stores it in 32 bits.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: f64, value: f32) {
        // Summary.Value { tag = 1, simple_value = 2 }
        let mut scalar = delimited(1, tag.as_bytes());
        scalar.extend(single(2, value));
        // Event { wall_time = 1, step = 2, summary = 5: Summary { value = 1 } }
        let mut event = double(1, wall_time);
        event.extend(whole(2, step));
        event.extend(delimited(5, &delimited(1, &scalar)));
        self.record(&event);
    }

    /// Returns the bytes of the file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends a record: length, checksum of the length, message, checksum of the message.
    fn record(&mut self, message: &[u8]) {
        let length = (message.len() as u64).to_le_bytes();
        self.bytes.extend(length);
        self.bytes.extend(masked(&length));
        self.bytes.extend(message);
        self.bytes.extend(masked(message));
    }
}

/// Computes the masked checksum of a record: rotated and shifted, as CRCs of data that contain CRCs are weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
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
