//! Training results that selection policies read.

use serde::{Deserialize, Serialize};

/// Training result of a counted task, supplied by the driver when a policy needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// [10^-9 nat/token] -- Mean training loss.
    pub loss_nanonats: u64,
}

impl TaskReport {
    /// Returns a report of a loss in [nat/token], rounded once. A loss that is negative or not finite becomes the
    /// greatest loss, so that the schedule stays defined: a client whose training diverged looks like one with much to
    /// learn.
    pub fn from_loss(loss: f64) -> Self {
        let nano = libm::rint(loss * 1e9);
        let in_range = nano >= 0.0 && nano < u64::MAX as f64;
        Self { loss_nanonats: if in_range { nano as u64 } else { u64::MAX } }
    }
}
