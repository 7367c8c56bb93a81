//! Devices: speed, memory and power.

use super::{Crashes, Work};
use crate::kernel::Span;
use crate::random::Quantiles;
use serde::{Deserialize, Serialize};

/// A class of devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name in messages and reports.
    pub name: String,
    /// [FLOP/s] -- Effective compute at the precision of the run: the rate that training reaches, not the data sheet's
    /// peak.
    pub flops_per_s: u64,
    /// [byte] -- Memory available to training.
    pub memory_bytes: u64,
    /// [byte/s] -- Memory bandwidth, which bounds work that states its memory traffic.
    pub memory_bytes_per_s: u64,
    /// [mW] -- Power while waiting or transferring.
    pub idle_mw: u32,
    /// [mW] -- Power while training.
    pub busy_mw: u32,
    /// [10^-9] -- Factor on the duration of training, drawn once per task; `None` is exactly 1.
    pub slowdown: Option<Quantiles>,
    /// Crashes of the device; `None` if it never crashes.
    pub crashes: Option<Crashes>,
}

impl Device {
    /// Returns the training time of `work` with a slowdown of `slowdown_ppb` [10^-9]: that of the slower of compute and
    /// memory, rounded up, at least 1 ns.
    pub fn training_span(&self, work: &Work, slowdown_ppb: u64) -> Span {
        let compute = Span::of_work(work.flops, self.flops_per_s);
        let memory = match work.memory_traffic_bytes {
            0 => Span::ZERO,
            bytes => Span::of_work(bytes, self.memory_bytes_per_s),
        };
        compute.max(memory).portion(slowdown_ppb, NOMINAL_PPB).max(Span(1))
    }

    /// Returns whether `work` fits into memory.
    pub fn holds(&self, work: &Work) -> bool {
        work.peak_memory_bytes <= self.memory_bytes
    }
}

/// [10^-9] -- Slowdown of a task that takes exactly its nominal time.
pub(crate) const NOMINAL_PPB: u64 = 1_000_000_000;
