//! Measurement of training steps on this machine, from which a device profile is fitted.
//!
//! [`measure`] takes micro-batches of several shapes through the program's own [`Trainer`](crate::training::Trainer), at the precision, the
//! adapter and the optimizer of a scenario, and returns [`Measurements`](crate::profile::Measurements). `docs/calibrate.md` says how to
//! measure, and what was found.

mod bench;
mod grid;
mod machine;
mod measure;
mod measurements;
mod settings;

pub use measurements::measure;
pub use settings::{CalibrationOptions, CalibrationWatch, MeasuringError, PassShape};
