//! Privacy accountants: the epsilon that a mechanism spends at a given delta.
//!
//! Everything here is pure arithmetic that gives the same bits on every platform.

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
pub use mechanism::{Accountant, EpsilonBound, EpsilonMethod, Mechanism};
pub use pld::{Direction, LossDistribution, SampledMechanism, gaussian_delta, gaussian_epsilon};
