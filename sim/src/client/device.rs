//! How fast a device computes, what it holds and what it draws.

use super::{Crashes, Work};
use crate::kernel::Span;
use crate::random::Quantiles;
use serde::{Deserialize, Serialize};

/// A class of devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// A name for messages and reports.
    pub name: String,
    /// Effective compute [FLOP/s] at the precision of the run -- what training reaches, not the data sheet's peak.
    pub flops_per_s: u64,
    /// Memory that training may fill [byte].
    pub memory_bytes: u64,
    /// Memory bandwidth [byte/s] -- bounds work that states its memory traffic.
    pub memory_bytes_per_s: u64,
    /// Power while waiting or transferring [mW].
    pub idle_mw: u32,
    /// Power while training [mW].
    pub busy_mw: u32,
    /// Factor on the duration of each task [10^-9], drawn once a task; `None` means exactly 1.
    pub slowdown: Option<Quantiles>,
    /// How it crashes; `None` means never.
    pub crashes: Option<Crashes>,
}

impl Device {
    /// How long `work` takes with a slowdown of `slowdown_ppb`: the slower of compute and memory, rounded up.
    pub fn training_span(&self, work: &Work, slowdown_ppb: u64) -> Span {
        let compute = Span::of_work(work.flops, self.flops_per_s);
        let memory = match work.memory_traffic_bytes {
            0 => Span::ZERO,
            bytes => Span::of_work(bytes, self.memory_bytes_per_s),
        };
        compute.max(memory).portion(slowdown_ppb, NOMINAL_PPB).max(Span(1))
    }

    /// Whether `work` fits into memory.
    pub fn holds(&self, work: &Work) -> bool {
        work.peak_memory_bytes <= self.memory_bytes
    }
}

/// The slowdown of a task that takes exactly its nominal time [10^-9].
pub(crate) const NOMINAL_PPB: u64 = 1_000_000_000;
