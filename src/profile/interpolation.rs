//! Times and memory of steps whose shapes lie between the measured ones.

use super::device_profile::{DeviceProfile, ProfileCell};

/// Shape of a micro-batch, and the rank of the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroBatchShape {
    /// [columns]
    pub rank: u32,
    /// [rows]
    pub rows: u32,
    /// [token] -- Length of each row.
    pub length: u64,
}

/// Place of a value between two neighbors on an axis, which are the same if it is one of the axis.
struct Place {
    lower: usize,
    upper: usize,
    /// [1] -- Part of the way from the lower to the upper neighbor.
    part: f64,
}

/// Returns the place of a value on an ascending axis; `None` if it is beyond it.
fn place(axis: &[u32], value: u64) -> Option<Place> {
    let upper = axis.partition_point(|&point| u64::from(point) < value);
    let above = u64::from(*axis.get(upper)?);
    if above == value {
        return Some(Place { lower: upper, upper, part: 0.0 });
    }
    let lower = upper.checked_sub(1)?;
    let below = u64::from(axis[lower]);
    Some(Place { lower, upper, part: (value - below) as f64 / (above - below) as f64 })
}

/// Returns the value of an axis that is nearest to `value`, or `value` itself if it is within the axis.
fn clamp(axis: &[u32], value: u64) -> u64 {
    value.clamp(axis[0].into(), axis[axis.len() - 1].into())
}

fn linear(place: &Place, at: impl Fn(usize) -> Option<f64>) -> Option<f64> {
    let lower = at(place.lower)?;
    if place.upper == place.lower {
        return Some(lower);
    }
    let upper = at(place.upper)?;
    Some(lower + (upper - lower) * place.part)
}

impl DeviceProfile {
    /// [s] -- Returns the time of a micro-batch: linear in the rank, in the rows and in their length between the measured ones. `None` for
    /// shapes beyond the grid.
    pub fn micro_batch_seconds(&self, shape: MicroBatchShape) -> Option<f64> {
        self.interpolate(shape, |cell| Some(cell.seconds))
    }

    /// [s] -- Returns the time of a micro-batch of any shape. Beyond the grid it is the time at the nearest shape of the grid's range, times
    /// the ratio of the fitted terms at both; the rank is then the nearest one.
    pub fn extrapolated_seconds(&self, shape: MicroBatchShape) -> f64 {
        let nearest = MicroBatchShape {
            rank: clamp(&self.ranks, shape.rank.into()) as u32,
            rows: clamp(&self.rows, shape.rows.into()) as u32,
            length: clamp(&self.lengths, shape.length),
        };
        // The ratio is 1 within the grid, and so the time has no jump at its border.
        let seconds = self.micro_batch_seconds(nearest).expect("the nearest shape is in the grid");
        seconds * (self.seconds_by_terms(nearest.rank, shape) / self.seconds_by_terms(nearest.rank, nearest))
    }

    fn seconds_by_terms(&self, rank: u32, shape: MicroBatchShape) -> f64 {
        let rank = place(&self.ranks, rank.into()).expect("the rank is in the grid");
        let seconds = linear(&rank, |index| Some(self.terms[index].seconds(shape.rows, shape.length)));
        seconds.expect("each rank has terms")
    }

    /// [s] -- Returns the time of an optimizer step: linear between the measured ranks, and that of the nearest one beyond them.
    pub fn optimizer_seconds(&self, rank: u32) -> f64 {
        let rank = place(&self.ranks, clamp(&self.ranks, rank.into())).expect("the rank is in the grid");
        linear(&rank, |index| Some(self.optimizer_seconds[index])).expect("each rank has a time")
    }

    /// [byte] -- Returns the peak memory of a training, interpolated as the time is, and rounded up. `None` for shapes beyond the grid, and
    /// where it was not measured.
    pub fn peak_memory_bytes(&self, shape: MicroBatchShape) -> Option<u64> {
        let bytes = self.interpolate(shape, |cell| cell.peak_memory_bytes.map(|bytes| bytes as f64));
        bytes.map(|bytes| bytes.ceil() as u64)
    }

    fn interpolate(&self, shape: MicroBatchShape, value: impl Fn(&ProfileCell) -> Option<f64>) -> Option<f64> {
        let ranks = place(&self.ranks, shape.rank.into())?;
        let rows = place(&self.rows, shape.rows.into())?;
        let lengths = place(&self.lengths, shape.length)?;
        // Along one axis after the other: the lengths of a row of the grid, its rows, its ranks.
        linear(&ranks, |rank| {
            linear(&rows, |row| {
                let first = (rank * self.rows.len() + row) * self.lengths.len();
                linear(&lengths, |length| value(&self.cells[first + length]))
            })
        })
    }
}
