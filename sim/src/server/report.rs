//! Training results, as far as policies read them.

use serde::{Deserialize, Serialize};

/// What the driver reports of a task that counted, when a policy asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Mean training loss [10^-9 nat/token].
    pub loss_nanonats: u64,
}

impl TaskReport {
    /// A report of a loss in nats a token, rounded once. What is not finite or negative becomes the greatest loss:
    /// a client whose training diverged looks like one with much to learn, and the schedule stays defined.
    pub fn from_loss(loss: f64) -> Self {
        let nano = libm::rint(loss * 1e9);
        let in_range = nano >= 0.0 && nano < u64::MAX as f64;
        Self { loss_nanonats: if in_range { nano as u64 } else { u64::MAX } }
    }
}
