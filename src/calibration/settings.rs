//! Settings of a measurement, the shapes that it takes, and why one fails.

use std::fmt;
use std::sync::atomic::AtomicBool;

use crate::inputs::InputError;
use crate::model::Device;
use crate::training;

/// Micro-batch of rows that all have the same length, and the rank of the adapter that is trained on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassShape {
    pub rows: u32,
    /// [token] -- Length of each row.
    pub length: u32,
    pub rank: u32,
}

impl PassShape {
    /// [token] -- Returns the tokens of the micro-batch.
    pub fn tokens(self) -> u64 {
        u64::from(self.rows) * u64::from(self.length)
    }
}

impl fmt::Display for PassShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} tokens at rank {}", self.rows, self.length, self.rank)
    }
}

/// Settings of a measurement. An axis without values follows from the scenario.
pub struct CalibrationOptions<'a> {
    /// [rows] -- Rows of a micro-batch.
    pub rows: Vec<u32>,
    /// [token] -- Lengths of the rows.
    pub lengths: Vec<u32>,
    pub ranks: Vec<u32>,
    /// Number of shapes that the fit does not see.
    pub held_out: u32,
    /// Measurements of each shape.
    pub repeats: u32,
    /// [s] -- Least duration of one measurement, in micro-batches of one client.
    pub least_seconds: f64,
    /// Trainings at the same time.
    pub workers: u32,
    /// Threads of each training.
    pub threads: u32,
    pub device: Device,
    /// Whether to measure even if other programs keep the machine busy, or repeats disagree.
    pub even_if_busy: bool,
    /// Set from outside to end the measurement.
    pub stop: &'a AtomicBool,
}

/// Observer of a measurement.
pub trait CalibrationWatch {
    /// A part of the measurement begins.
    fn begin(&mut self, what: &str);

    /// This share of the part is done, from 0 to 1.
    fn done(&mut self, share: f64);
}

impl CalibrationWatch for () {
    fn begin(&mut self, _: &str) {}

    fn done(&mut self, _: f64) {}
}

/// Reason why a machine was not measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasuringError {
    #[error(transparent)]
    Input(#[from] InputError),
    /// A training failed.
    #[error(transparent)]
    Training(#[from] training::Error),
    /// A setting or a field of the scenario asks for something that cannot be measured.
    #[error("failed to measure {field}: {reason}")]
    Setting { field: &'static str, reason: String },
    /// The loss of random tokens was not finite.
    #[error("failed to measure {shape}: its loss or gradient is not finite")]
    NonFinite { shape: PassShape },
    /// Other programs keep the machine busy.
    #[error(
        "failed to measure a busy machine: other programs took {others:.2} of its {processors} processors for a second, and at most \
         {allowed:.2} leave the times as they are"
    )]
    Busy { others: f64, processors: usize, allowed: f64 },
    /// Repeats disagree, even after they were measured again.
    #[error(
        "failed to measure {shape}: its repeats take {least:.4} to {greatest:.4} s per micro-batch, while other programs took {others:.2} \
         processors; measured again {times} times"
    )]
    Unsteady { shape: PassShape, least: f64, greatest: f64, others: f64, times: u32 },
    #[error("interrupted")]
    Interrupted,
}
