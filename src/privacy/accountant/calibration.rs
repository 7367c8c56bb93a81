//! How much noise an epsilon needs.

use super::{Accountant, Mechanism};

/// [1] Relative width of the interval in which the least sufficient noise multiplier lies; its upper end is returned.
pub const CALIBRATION_TOLERANCE: f64 = 1e-4;

/// Noise multipliers between which the search runs.
const NOISE: std::ops::RangeInclusive<f64> = 0.05..=1e6;

/// No noise in range reaches the epsilon that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "failed to calibrate: epsilon {epsilon} at delta {delta} needs a noise multiplier outside of {} to {}",
    NOISE.start(), NOISE.end()
)]
pub struct CalibrationError {
    pub epsilon: f64,
    pub delta: f64,
}

/// The least noise multiplier, to [`CALIBRATION_TOLERANCE`], with which `steps` steps of `mechanism` spend at most
/// `epsilon` at `delta`: bisection on its logarithm, and the end that keeps the promise.
///
/// # Errors
/// If it is out of range.
///
/// # Examples
///
/// ```
/// use fedreplay::privacy::accountant::{Accountant, Mechanism, noise_for};
///
/// let mechanism = Mechanism::Poisson { noise_multiplier: 0.0, rate: 0.01 };
/// let noise = noise_for(mechanism, 1000, 2.0, 1e-5, Accountant::Rdp)?;
/// let epsilon_with = |noise: f64| mechanism.with_noise(noise).epsilon(1000, 1e-5, Accountant::Rdp);
/// assert!(epsilon_with(noise) <= 2.0);
/// assert!(epsilon_with(0.999 * noise) > 2.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn noise_for(
    mechanism: Mechanism,
    steps: u64,
    epsilon: f64,
    delta: f64,
    accountant: Accountant,
) -> Result<f64, CalibrationError> {
    let is_enough = |noise: f64| mechanism.with_noise(noise).epsilon(steps, delta, accountant) <= epsilon;
    let mut high = 1.0;
    while !is_enough(high) {
        high *= 2.0;
        if high > *NOISE.end() {
            return Err(CalibrationError { epsilon, delta });
        }
    }
    let mut low = high / 2.0;
    while is_enough(low) {
        (low, high) = (low / 2.0, low);
        if low < *NOISE.start() {
            return Err(CalibrationError { epsilon, delta });
        }
    }
    while high / low > 1.0 + CALIBRATION_TOLERANCE {
        let middle = libm::sqrt(low * high);
        if is_enough(middle) { high = middle } else { low = middle }
    }
    Ok(high)
}
