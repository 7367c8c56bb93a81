//! What one task of a client costs.

use serde::{Deserialize, Serialize};

/// The cost of one task: computed by the caller from model, batch and adapter, or by the cost model of LoRA training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Floating-point operations of the task [FLOP] -- at least 1.
    pub flops: u64,
    /// Bytes moved between memory and compute units [byte] -- 0 if only compute bounds the task.
    pub memory_traffic_bytes: u64,
    /// Memory needed at the peak [byte] -- 0 if unknown, and then never too much.
    pub peak_memory_bytes: u64,
    /// Bytes from server to client for each task [byte] -- at least 1.
    pub download_bytes: u64,
    /// Bytes from client to server for each task [byte] -- at least 1.
    pub upload_bytes: u64,
    /// Bytes that a client downloads in addition with its first task [byte]: the base model. 0 if it has it.
    pub first_download_bytes: u64,
}
