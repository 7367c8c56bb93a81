//! Clients: their devices, links, work, and the ways in which they fail.
//!
//! Clients are rows of indices into tables of classes, so that a million of them take little memory. Everything that
//! varies from task to task is drawn from the client's own streams, at the number of the task.

mod alternation;
mod availability;
mod catalog;
mod device;
mod fault;
mod lora_cost;

pub(crate) use alternation::{Alternating, Sojourn, Status};
pub use availability::{Availability, Diurnal};
pub use catalog::{DeviceSpec, Measurement, Precision};
pub(crate) use device::NOMINAL_PPB;
pub use device::{Device, Link, Radio, Stalls, Traffic, Work};
pub(crate) use fault::Fate;
pub use fault::{Crashes, Dropout, INTERRUPTIONS_MAX, Interruption, RegionCut, Stage};
pub use lora_cost::{ALL_TARGETS, LoraTraining, ModelShape, Target};

use serde::{Deserialize, Serialize};

/// A client: indices into the federation's tables, and its amount of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Index into [`crate::Federation::devices`].
    pub device: u32,
    /// Index into [`crate::Federation::links`].
    pub link: u32,
    /// Index into [`crate::Federation::works`].
    pub work: u32,
    /// Index into [`crate::Federation::dropouts`].
    pub dropout: u32,
    /// Index into [`crate::Federation::availabilities`].
    pub availability: u32,
    /// Region of this client.
    pub region: u32,
    /// Number of rows of training data; at least 1. Read by selection policies.
    pub samples: u32,
}
