//! Faults: device crashes, region cuts, and the handling of interrupted tasks.

use crate::kernel::{Span, Time};
use serde::{Deserialize, Serialize};

/// Crashes of a device: alternating exponential times up and down, starting up. A crash loses the running task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashes {
    /// Mean time from the start or a return to the next crash; above zero.
    pub mean_up: Span,
    /// Mean time from a crash to the return; above zero.
    pub mean_down: Span,
}

/// A period in which a region is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCut {
    /// Region number.
    pub region: u32,
    /// First instant of the cut.
    pub from: Time,
    /// First instant after the cut.
    pub until: Time,
}

/// Number of interruptions that a task survives. Otherwise, a client whose every online window is shorter than its
/// transfer would start over forever, and its round would never close.
pub const INTERRUPTIONS_MAX: u16 = 100;

/// Handling of the task of a client that goes offline, or whose region is cut off. A task that is interrupted more than
/// [`INTERRUPTIONS_MAX`] times is lost in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interruption {
    /// The task is lost.
    #[default]
    Abandon,
    /// Training continues. A transfer is suspended, and resumes from where it stopped when the client returns.
    Resume,
    /// Training continues. A transfer is stopped, and starts over when the client returns.
    Restart,
}
