//! Device classes in the units of data sheets, and their conversion to the integers of the simulation.
//!
//! A catalog is plain data that users can extend: a list of [`DeviceSpec`] in a scenario's files. Peak values are those
//! of data sheets; `efficiency` is the fraction that training reaches. Measurements that others have published stand next to
//! them, and give an efficiency of their own.

use super::Device;
use super::lora_cost::{LoraTraining, ModelShape, Target};
use serde::{Deserialize, Serialize};

/// A device class, in the units of data sheets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Name by which scenarios refer to it.
    pub name: String,
    /// Kind of device: data-center GPU, gaming GPU, laptop, edge board, phone, ...
    pub kind: String,
    /// [10^12 FLOP/s] -- Peak in f32.
    pub f32_tflops: f64,
    /// [10^12 FLOP/s] -- Peak in dense half precision: bf16 or f16 with f32 accumulation.
    pub half_tflops: f64,
    /// [1] -- Fraction of the peak that training reaches; above 0, at most 1.
    pub efficiency: f64,
    /// [10^9 byte] -- Memory available to training; for shared memory, without the system's part.
    pub memory_gb: f64,
    /// [10^9 byte/s] -- Peak memory bandwidth.
    pub memory_gb_per_s: f64,
    /// [W] -- Power while waiting.
    pub idle_w: f64,
    /// [W] -- Power while training.
    pub busy_w: f64,
    /// Publication of the values.
    pub source: String,
    /// Fields whose values are not published there and are estimates.
    pub estimates: Vec<String>,
    /// Published measurements of LoRA training on such a device.
    #[serde(default)]
    pub measured: Vec<Measurement>,
}

/// Published measurement of LoRA training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Name of the base model, with the number format of its weights.
    pub model: String,
    /// Dimensions of the base model.
    pub shape: ModelShape,
    /// Rank of the adapter; `None` if it is not stated, and costs nothing then.
    pub rank: Option<u64>,
    /// Modules with an adapter, in each layer.
    pub targets: Vec<Target>,
    /// Sequences per micro-batch.
    pub batch: u64,
    /// Micro-batches per step.
    pub accumulation: u64,
    /// [token] -- Length of a sequence.
    pub sequence: u64,
    /// Whether the backward pass recomputed layers.
    pub recomputes: bool,
    /// [s] -- Time of one step, as published.
    pub step_s: f64,
    /// Spread of this time, as published; `None` if it is not stated.
    pub spread: Option<String>,
    /// Publication, with the place in it.
    pub source: String,
}

impl Measurement {
    /// [token/s] -- Returns the tokens of a step per second.
    pub fn tokens_per_s(&self) -> f64 {
        (self.batch * self.accumulation * self.sequence) as f64 / self.step_s
    }

    /// [FLOP] -- Returns the operations of a token by the cost model.
    pub fn flops_per_token(&self) -> f64 {
        let training = LoraTraining {
            model: self.shape,
            rank: self.rank.unwrap_or(0),
            targets: self.targets.clone(),
            steps: 1,
            accumulation: self.accumulation,
            batch: self.batch,
            sequence: self.sequence,
            recomputes: self.recomputes,
            // Operations do not depend on what follows.
            base_bits: 16,
            linear_block_bits: 64 * 16,
            activation_bytes: 2,
            optimizer_bytes: 8,
            keeps_scores: false,
            wire_bytes: 4,
            wire_overhead_bytes: 0,
            downloads_base: false,
        };
        training.micro_batch_flops() as f64 / (self.batch * self.sequence) as f64
    }

    /// [1] -- Returns the fraction of a device's peak in half precision that this training reached.
    pub fn efficiency(&self, device: &DeviceSpec) -> f64 {
        self.tokens_per_s() * self.flops_per_token() / (device.half_tflops * 1e12)
    }
}

/// Numerical precision of a device's computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bf16 or f16.
    Half,
}

impl DeviceSpec {
    /// Returns the device at this precision, with each value rounded once; `None` if a value is not a positive number
    /// (idle power may be zero), or the efficiency is above 1.
    pub fn device(&self, precision: Precision) -> Option<Device> {
        let peak = match precision {
            Precision::F32 => self.f32_tflops,
            Precision::Half => self.half_tflops,
        };
        // Comparisons in this form reject NaN as well.
        if !(self.efficiency > 0.0 && self.efficiency <= 1.0) {
            return None;
        }
        Some(Device {
            name: self.name.clone(),
            flops_per_s: whole(peak * self.efficiency * 1e12)?,
            memory_bytes: whole(self.memory_gb * 1e9)?,
            memory_bytes_per_s: whole(self.memory_gb_per_s * 1e9)?,
            idle_mw: milliwatt(self.idle_w)?,
            busy_mw: milliwatt(self.busy_w)?,
            slowdown: None,
            crashes: None,
        })
    }
}

/// Returns `value` rounded to an integer; `None` if it is below 1 or out of range.
fn whole(value: f64) -> Option<u64> {
    if value >= 1.0 && value < u64::MAX as f64 { Some(libm::rint(value) as u64) } else { None }
}

/// Converts [W] to [mW]; `None` if negative or out of range.
fn milliwatt(watt: f64) -> Option<u32> {
    if (0.0..4e6).contains(&watt) { Some(libm::rint(watt * 1e3) as u32) } else { None }
}
