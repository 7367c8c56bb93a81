//! Devices that crash, regions that are cut off, and what becomes of interrupted tasks.

use crate::kernel::{Span, Time};
use serde::{Deserialize, Serialize};

/// Crashes of a device: times up and down are exponential, in turns, from a start that is up. A crash loses the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashes {
    /// Mean time from start or return to the next crash -- above zero.
    pub mean_up: Span,
    /// Mean time from a crash to the return -- above zero.
    pub mean_down: Span,
}

/// A region without connection from one instant to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCut {
    /// Which region.
    pub region: u32,
    /// First instant of the cut.
    pub from: Time,
    /// First instant after the cut.
    pub until: Time,
}

/// The interruptions that a task survives. A client whose every window is shorter than its transfer would otherwise
/// begin again for ever, and its round would never close.
pub const INTERRUPTIONS_MAX: u16 = 100;

/// What becomes of the task of a client that goes offline, or whose region is cut off. A task that is interrupted more
/// than [`INTERRUPTIONS_MAX`] times is lost in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interruption {
    /// The task is lost.
    #[default]
    Abandon,
    /// Training goes on; a transfer stops, and goes on from where it was when the client is back.
    Resume,
    /// Training goes on; a transfer stops, and begins again when the client is back.
    Restart,
}
