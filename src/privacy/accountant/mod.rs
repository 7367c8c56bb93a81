//! Accountants: how much privacy a mechanism spends, as epsilon at a delta. Pure arithmetic; the same bits everywhere.

mod calibration;
mod fixed_size;
mod fourier;
mod mechanism;
mod numeric;
mod pld;
pub mod rdp;
#[cfg(test)]
mod tests;

pub use calibration::{CALIBRATION_TOLERANCE, CalibrationError, noise_for};
pub use mechanism::{Accountant, Mechanism};
pub use pld::{Direction, LossDistribution, Sampled, gaussian_delta, gaussian_epsilon};
