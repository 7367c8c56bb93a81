//! What a client is: a device, a link, work to do, and the ways in which it fails.
//!
//! Clients are rows of indices into tables of classes, so that a million of them are small. Whatever varies from task
//! to task is drawn from the client's own streams at the task's number.

mod alternation;
mod availability;
mod catalog;
mod device;
mod dropout;
mod fault;
mod link;
mod lora_cost;
mod work;

pub(crate) use alternation::{Alternating, Sojourn, Status};
pub use availability::{Availability, Diurnal};
pub use catalog::{DeviceSpec, Precision};
pub use device::Device;
pub(crate) use device::NOMINAL_PPB;
pub(crate) use dropout::Fate;
pub use dropout::{Dropout, Stage};
pub use fault::{Crashes, INTERRUPTIONS_MAX, Interruption, RegionCut};
pub use link::Link;
pub use lora_cost::{ALL_TARGETS, LoraTraining, ModelShape, Target};
pub use work::Work;

use serde::{Deserialize, Serialize};

/// One client: indices into the federation's tables, and how much data it has.
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
    /// The region that this client is in.
    pub region: u32,
    /// Rows of training data -- at least 1; read by selection by size.
    pub samples: u32,
}
