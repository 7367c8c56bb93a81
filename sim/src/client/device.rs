//! Devices: speed, memory and power; their links, and the work of a task.

use serde::{Deserialize, Serialize};

use super::Crashes;
use crate::kernel::Span;
use crate::network::{FlowWork, Rate, Transport};
use crate::random::{Probability, Purpose, Quantiles, Seeds};

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
    /// Returns the training time of `work` with a slowdown of `slowdown_ppb` [10^-9], rounded up, at least 1 ns: the time that it
    /// states, or else that of the slower of compute and memory.
    pub fn training_span(&self, work: &Work, slowdown_ppb: u64) -> Span {
        let nominal = work.training.unwrap_or_else(|| self.modeled_span(work));
        nominal.portion(slowdown_ppb, NOMINAL_PPB).max(Span(1))
    }

    fn modeled_span(&self, work: &Work) -> Span {
        let compute = Span::of_work(work.flops, self.flops_per_s);
        let memory = match work.memory_traffic_bytes {
            0 => Span::ZERO,
            bytes => Span::of_work(bytes, self.memory_bytes_per_s),
        };
        compute.max(memory)
    }

    /// Returns whether `work` fits into memory.
    pub fn holds(&self, work: &Work) -> bool {
        work.peak_memory_bytes <= self.memory_bytes
    }
}

/// [10^-9] -- Slowdown of a task that takes exactly its nominal time.
pub(crate) const NOMINAL_PPB: u64 = 1_000_000_000;

/// A class of links between a client and the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Capacity to the client, above zero.
    pub down: Rate,
    /// Capacity from the client, above zero.
    pub up: Rate,
    /// Time before the first byte of a transfer arrives, in each direction.
    pub latency: Span,
    /// [ns] -- Addition to the latency, drawn once per transfer; `None` adds nothing.
    pub latency_jitter: Option<Quantiles>,
    /// Times in which a transfer's connection carries nothing; `None` for none.
    pub stalls: Option<Stalls>,
    /// Transport protocol.
    pub transport: Transport,
    /// Energy of the device's radio.
    pub radio: Radio,
}

/// Stalls of transfers: a connection that carries nothing for some time, as after a lost packet that is repeated late. The time is added
/// before the transfer's first byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// Share of the transfers that stall, each once.
    pub share: Probability,
    /// [ns] -- How long.
    pub span: Quantiles,
}

impl Stalls {
    /// Returns how long a transfer in direction `way` (0 down, 1 up) of a client's task stalls.
    pub(crate) fn of_transfer(&self, seeds: &Seeds, client: u32, task_number: u32, way: u64) -> Span {
        let mut stream = seeds.stream(Purpose::Stalls, u64::from(client)).at(4 * u64::from(task_number) + 2 * way);
        let is_hit = stream.below(u64::from(Probability::SCALE)) < u64::from(self.share.ppb());
        if is_hit { Span(self.span.at(stream.next_u64())) } else { Span::ZERO }
    }
}

/// Energy that a device spends on each bit that it receives or sends, in addition to the power of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Radio {
    /// [pJ/bit] -- Of a bit received.
    pub down_pj_per_bit: u64,
    /// [pJ/bit] -- Of a bit sent.
    pub up_pj_per_bit: u64,
}

impl Link {
    /// Returns the time of a transfer of `bytes` over this link at `rate`, without contention and jitter: at most that of the link in
    /// its direction. It is [`u64::MAX`] nanoseconds if that is not representable.
    pub(crate) fn transfer_span(&self, bytes: u64, rate: Rate) -> Span {
        let delay = self.transport.delay(bytes, rate, [self.latency; 2]);
        let moved = FlowWork::of_bytes(self.transport.overhead.wire_bytes(bytes)).duration(rate);
        Span(moved.map_or(u64::MAX, |moved| moved.0.saturating_add(delay.0)))
    }
}

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
    /// Transfers in every second round, from the second on, of methods that send one part of the model and then the other;
    /// `None` where they are those of the other rounds.
    #[serde(default)]
    pub every_second_round: Option<Traffic>,
    /// Training time without slowdown, where it was measured; `None` is that of the device's speed and memory bandwidth.
    #[serde(default)]
    pub training: Option<Span>,
}

impl Work {
    /// Returns the transfers of a task in a round, from 0, without the base model.
    pub(crate) fn traffic(&self, round: u32) -> Traffic {
        let usual = Traffic { download_bytes: self.download_bytes, upload_bytes: self.upload_bytes };
        self.every_second_round.filter(|_| round % 2 == 1).unwrap_or(usual)
    }
}

/// Sizes of the transfers of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// [byte] -- Download from the server; at least 1.
    pub download_bytes: u64,
    /// [byte] -- Upload to the server; at least 1.
    pub upload_bytes: u64,
}
