//! Device classes as data sheets state them, and the integers that a simulation makes of them.
//!
//! A catalog is plain data that anyone can extend: a list of [`DeviceSpec`] in a file of scenarios. Peaks are data
//! sheet peaks; what training reaches of them is `efficiency`.

use super::Device;
use serde::{Deserialize, Serialize};

/// A device class, in the units of data sheets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// The name by which scenarios refer to it.
    pub name: String,
    /// What kind of device it is: data-centre GPU, gaming GPU, laptop, edge board, phone, ...
    pub kind: String,
    /// Peak in f32 [10^12 FLOP/s].
    pub f32_tflops: f64,
    /// Peak dense half precision, bf16 or f16 with f32 accumulation [10^12 FLOP/s].
    pub half_tflops: f64,
    /// Part of the peak that training reaches, above 0, at most 1.
    pub efficiency: f64,
    /// Memory that training may fill [10^9 byte]; for shared memory, without what the system keeps.
    pub memory_gb: f64,
    /// Peak memory bandwidth [10^9 byte/s].
    pub memory_gb_per_s: f64,
    /// Power while waiting [W].
    pub idle_w: f64,
    /// Power while training [W].
    pub busy_w: f64,
    /// Where the values were published.
    pub source: String,
    /// Fields whose values were not found there but estimated.
    pub estimates: Vec<String>,
}

/// What a device computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bf16 or f16.
    Half,
}

impl DeviceSpec {
    /// The device at this precision, each value rounded once; `None` if one is not a positive number (idle power may
    /// be zero), or the efficiency is above 1.
    pub fn device(&self, precision: Precision) -> Option<Device> {
        let peak = match precision {
            Precision::F32 => self.f32_tflops,
            Precision::Half => self.half_tflops,
        };
        let whole = |value: f64| (value >= 1.0 && value < u64::MAX as f64).then(|| libm::rint(value) as u64);
        let milliwatt = |watt: f64| (0.0..4e6).contains(&watt).then(|| libm::rint(watt * 1e3) as u32);
        let efficiency = (self.efficiency > 0.0 && self.efficiency <= 1.0).then_some(self.efficiency)?;
        Some(Device {
            name: self.name.clone(),
            flops_per_s: whole(peak * efficiency * 1e12)?,
            memory_bytes: whole(self.memory_gb * 1e9)?,
            memory_bytes_per_s: whole(self.memory_gb_per_s * 1e9)?,
            idle_mw: milliwatt(self.idle_w)?,
            busy_mw: milliwatt(self.busy_w)?,
            slowdown: None,
            crashes: None,
        })
    }
}
