//! The profile of a device, as its file has it.

use serde::{Deserialize, Serialize};

use super::steps::{Machine, Workload};
use super::terms::{RelativeErrors, Terms};
use crate::store::Digest;

/// Number of the form of the file.
pub(super) const FORMAT: u32 = 1;

/// Measured times and memory of training steps of one workload on one machine, on a grid of ranks, rows and lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Form of the file: 1.
    pub format: u32,
    pub workload: Workload,
    pub machine: Machine,
    /// [columns] -- Ranks of the adapter, ascending.
    pub ranks: Vec<u32>,
    /// [rows] -- Rows of a micro-batch, ascending.
    pub rows: Vec<u32>,
    /// [token] -- Lengths of a row, ascending; at least 2.
    pub lengths: Vec<u32>,
    /// One per shape: in the order of ranks, then of rows, then of lengths.
    pub cells: Vec<ProfileCell>,
    /// [s] -- Step of the optimizer, by rank.
    pub optimizer_seconds: Vec<f64>,
    /// Terms that are fitted to the cells, by rank: for readers, and for shapes beyond the grid.
    pub terms: Vec<Terms>,
    /// Steps that the fit has not seen.
    pub held_out: Vec<HeldOutStep>,
    /// Deviations of the times of `held_out`.
    pub held_out_time_errors: Option<RelativeErrors>,
    /// Deviations of the memory of `held_out`.
    pub held_out_memory_errors: Option<RelativeErrors>,
    /// BLAKE3 hash of the measurements.
    pub measurements: Digest,
}

/// Repeats of one shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileCell {
    /// [s] -- Median time of the micro-batch.
    pub seconds: f64,
    /// [s]
    pub least_seconds: f64,
    /// [s]
    pub greatest_seconds: f64,
    /// Number of measured steps.
    pub repeats: u32,
    /// [byte] -- Greatest peak memory; `None` if it was not measured.
    pub peak_memory_bytes: Option<u64>,
}

/// Shape that the fit has not seen, measured and interpolated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutStep {
    /// [columns]
    pub rank: u32,
    /// [rows]
    pub rows: u32,
    /// [token]
    pub length: u32,
    /// [s] -- Median of the measured times.
    pub seconds: f64,
    /// [s] -- Interpolated time.
    pub fitted_seconds: f64,
    /// [byte] -- Greatest measured peak memory.
    pub peak_memory_bytes: Option<u64>,
    /// [byte] -- Interpolated peak memory.
    pub fitted_memory_bytes: Option<u64>,
}
