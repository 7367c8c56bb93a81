//! Fit of a profile to measured steps.

use std::collections::{BTreeMap, BTreeSet};

use super::device_profile::{DeviceProfile, FORMAT, HeldOutStep, ProfileCell};
use super::interpolation::MicroBatchShape;
use super::steps::{MeasuredStep, Measurements};
use super::terms::{RelativeErrors, Terms, median};
use crate::store::Digest;

/// Reason why measurements determine no profile.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// A time or a size is not a positive number.
    #[error(
        "{field} of a step of {rows} rows of {length} tokens at rank {rank} is {value}: it must be finite and above 0"
    )]
    Value { rank: u32, rows: u32, length: u32, field: &'static str, value: f64 },
    /// The lengths do not show how the time grows with the length.
    #[error("the steps that are not held out have {lengths} length, and a fit needs at least 2")]
    OneLength { lengths: usize },
    /// A shape of the grid was not measured.
    #[error(
        "no step of {rows} rows of {length} tokens at rank {rank}: every rank, number of rows and length that occurs must be measured \
         with every other"
    )]
    Missing { rank: u32, rows: u32, length: u32 },
    /// A step that is held out lies beyond those that are not.
    #[error("the held-out step of {rows} rows of {length} tokens at rank {rank} is not between the others")]
    Beyond { rank: u32, rows: u32, length: u32 },
    /// Some ranks have times of the optimizer, and others none.
    #[error("optimizer_seconds is missing at rank {rank}, and other ranks have it")]
    NoOptimizer { rank: u32 },
}

/// Rank, rows and length.
type Shape = (u32, u32, u32);

impl DeviceProfile {
    /// Fits a profile: the median time of the repeats of each shape, on a grid of all ranks, numbers of rows and lengths that occur. Steps that
    /// are held out are compared with it.
    ///
    /// # Errors
    /// If a time is not a positive number, or the shapes form no grid.
    pub fn fit(measurements: &Measurements) -> Result<Self, FitError> {
        for step in &measurements.steps {
            check(step)?;
        }
        let steps = by_shape(measurements, false);
        let ranks = axis(&steps, |shape| shape.0);
        let rows = axis(&steps, |shape| shape.1);
        let lengths = axis(&steps, |shape| shape.2);
        if lengths.len() < 2 {
            return Err(FitError::OneLength { lengths: lengths.len() });
        }
        let mut cells = Vec::with_capacity(ranks.len() * rows.len() * lengths.len());
        let mut terms = Vec::with_capacity(ranks.len());
        for &rank in &ranks {
            let mut times = Vec::with_capacity(rows.len() * lengths.len());
            for &rows in &rows {
                for &length in &lengths {
                    let repeats = steps.get(&(rank, rows, length));
                    let cell = cell(repeats.ok_or(FitError::Missing { rank, rows, length })?);
                    times.push((rows, length, cell.seconds));
                    cells.push(cell);
                }
            }
            terms.push(Terms::fit(&times));
        }
        // The hash is that of the steps as they were given, so that a profile can be traced to its measurements.
        let mut profile = Self {
            format: FORMAT,
            workload: measurements.workload.clone(),
            machine: measurements.machine.clone(),
            optimizer_seconds: optimizer_times(measurements, &ranks)?,
            ranks,
            rows,
            lengths,
            cells,
            terms,
            held_out: Vec::new(),
            held_out_time_errors: None,
            held_out_memory_errors: None,
            measurements: Digest::of(&postcard::to_stdvec(measurements).expect("measurements can be written")),
        };
        profile.compare(&by_shape(measurements, true))?;
        Ok(profile)
    }

    /// Compares steps that the fit has not seen with the profile.
    fn compare(&mut self, held_out: &BTreeMap<Shape, Vec<&MeasuredStep>>) -> Result<(), FitError> {
        let mut time_errors = Vec::new();
        let mut memory_errors = Vec::new();
        for (&(rank, rows, length), repeats) in held_out {
            let shape = MicroBatchShape { rank, rows, length: length.into() };
            let fitted_seconds = self.micro_batch_seconds(shape).ok_or(FitError::Beyond { rank, rows, length })?;
            let ProfileCell { seconds, peak_memory_bytes, .. } = cell(repeats);
            let fitted_memory_bytes = self.peak_memory_bytes(shape);
            // Relative to what was measured, and without sign: a median of signed errors would hide those that cancel.
            time_errors.push((fitted_seconds / seconds - 1.0).abs());
            if let (Some(fitted), Some(measured)) = (fitted_memory_bytes, peak_memory_bytes) {
                memory_errors.push((fitted as f64 / measured as f64 - 1.0).abs());
            }
            self.held_out.push(HeldOutStep {
                rank,
                rows,
                length,
                seconds,
                fitted_seconds,
                peak_memory_bytes,
                fitted_memory_bytes,
            });
        }
        self.held_out_time_errors = RelativeErrors::of(time_errors);
        self.held_out_memory_errors = RelativeErrors::of(memory_errors);
        Ok(())
    }
}

fn check(step: &MeasuredStep) -> Result<(), FitError> {
    let &MeasuredStep { rank, rows, length, .. } = step;
    let values = [
        ("rank", Some(f64::from(rank))),
        ("rows", Some(f64::from(rows))),
        ("length", Some(f64::from(length))),
        ("micro_batch_seconds", Some(step.micro_batch_seconds)),
        ("optimizer_seconds", step.optimizer_seconds),
        ("peak_memory_bytes", step.peak_memory_bytes.map(|bytes| bytes as f64)),
    ];
    for (field, value) in values {
        // NaN is not above 0 either.
        if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
            return Err(FitError::Value { rank, rows, length, field, value });
        }
    }
    Ok(())
}

fn by_shape(measurements: &Measurements, held_out: bool) -> BTreeMap<Shape, Vec<&MeasuredStep>> {
    let mut shapes: BTreeMap<Shape, Vec<&MeasuredStep>> = BTreeMap::new();
    for step in measurements.steps.iter().filter(|step| step.held_out == held_out) {
        shapes.entry((step.rank, step.rows, step.length)).or_default().push(step);
    }
    shapes
}

fn axis(steps: &BTreeMap<Shape, Vec<&MeasuredStep>>, part: fn(&Shape) -> u32) -> Vec<u32> {
    let values: BTreeSet<u32> = steps.keys().map(part).collect();
    values.into_iter().collect()
}

fn cell(repeats: &[&MeasuredStep]) -> ProfileCell {
    // The median is that of the usual step: single slow ones, which other processes delay, do not move it.
    let mut seconds: Vec<f64> = repeats.iter().map(|step| step.micro_batch_seconds).collect();
    seconds.sort_by(f64::total_cmp);
    ProfileCell {
        seconds: median(&seconds),
        least_seconds: seconds[0],
        greatest_seconds: seconds[seconds.len() - 1],
        repeats: seconds.len() as u32,
        peak_memory_bytes: repeats.iter().filter_map(|step| step.peak_memory_bytes).max(),
    }
}

/// [s] -- Returns the median time of an optimizer step at each rank, or 0 if none was measured.
fn optimizer_times(measurements: &Measurements, ranks: &[u32]) -> Result<Vec<f64>, FitError> {
    if measurements.steps.iter().all(|step| step.optimizer_seconds.is_none()) {
        return Ok(vec![0.0; ranks.len()]);
    }
    let mut medians = Vec::with_capacity(ranks.len());
    for &rank in ranks {
        let fitted = measurements.steps.iter().filter(|step| step.rank == rank && !step.held_out);
        let mut seconds: Vec<f64> = fitted.filter_map(|step| step.optimizer_seconds).collect();
        if seconds.is_empty() {
            return Err(FitError::NoOptimizer { rank });
        }
        seconds.sort_by(f64::total_cmp);
        medians.push(median(&seconds));
    }
    Ok(medians)
}
