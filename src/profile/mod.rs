//! Device profiles: times and memory of training steps that were measured on a device, fitted for shapes between the measured ones.
//!
//! [`Measurements`] are measured here or read from a table with one row per step. [`DeviceProfile::fit`] turns them into a
//! [`DeviceProfile`], whose file a scenario can name in place of a device's speed. `docs/time.md` has the columns of the table and the fields of
//! the file.

mod device_profile;
mod file;
mod fit;
mod interpolation;
mod steps;
mod table;
mod terms;
#[cfg(test)]
mod tests;

pub use device_profile::{DeviceProfile, HeldOutStep, ProfileCell};
pub use file::ProfileError;
pub use fit::FitError;
pub use interpolation::MicroBatchShape;
pub use steps::{Machine, MeasuredStep, Measurements, Workload};
pub use terms::{RelativeErrors, Terms};
