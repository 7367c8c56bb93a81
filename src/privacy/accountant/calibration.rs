//! Calibration: the noise multiplier that a target epsilon needs.

use super::{Accountant, Mechanism};

/// [1] -- Relative width of the interval in which the smallest sufficient noise multiplier lies. Its upper end is
/// returned.
pub const CALIBRATION_TOLERANCE: f64 = 1e-4;

/// Range of noise multipliers that is searched.
const NOISE: std::ops::RangeInclusive<f64> = 0.05..=1e6;

/// Error if no noise multiplier in range reaches the target epsilon.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "failed to calibrate: epsilon {epsilon} at delta {delta} needs a noise multiplier outside of {} to {}",
    NOISE.start(), NOISE.end()
)]
pub struct CalibrationError {
    /// Target epsilon.
    pub epsilon: f64,
    /// Delta at which it is stated.
    pub delta: f64,
}

/// Returns the smallest noise multiplier, to [`CALIBRATION_TOLERANCE`], with which `steps` steps of `mechanism` spend
/// at most `epsilon` at `delta`. Bisects its logarithm and returns the end that keeps within the target.
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
    // Doubling and halving from 1 until the answer is enclosed: `high` suffices, `low` does not.
    let mut high = 1.0;
    loop {
        if mechanism.with_noise(high).epsilon(steps, delta, accountant) <= epsilon {
            break;
        }
        high *= 2.0;
        if high > *NOISE.end() {
            return Err(CalibrationError { epsilon, delta });
        }
    }
    let mut low = high / 2.0;
    while mechanism.with_noise(low).epsilon(steps, delta, accountant) <= epsilon {
        high = low;
        low /= 2.0;
        if low < *NOISE.start() {
            return Err(CalibrationError { epsilon, delta });
        }
    }
    while high / low > 1.0 + CALIBRATION_TOLERANCE {
        let middle = libm::sqrt(low * high);
        if mechanism.with_noise(middle).epsilon(steps, delta, accountant) <= epsilon {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}
