//! Cost of one task of a client.

use serde::{Deserialize, Serialize};

/// Cost of one task, computed by the caller or by the cost model of LoRA training,
/// [`LoraTraining`](super::LoraTraining).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// [FLOP] -- Floating-point operations; at least 1.
    pub flops: u64,
    /// [byte] -- Traffic between memory and compute units; 0 if the task is bounded by compute only.
    pub memory_traffic_bytes: u64,
    /// [byte] -- Peak memory; 0 if unknown, which fits into any device.
    pub peak_memory_bytes: u64,
    /// [byte] -- Download from the server per task; at least 1.
    pub download_bytes: u64,
    /// [byte] -- Upload to the server per task; at least 1.
    pub upload_bytes: u64,
    /// [byte] -- Additional download with the first task: the base model. 0 if the client has it.
    pub first_download_bytes: u64,
}
