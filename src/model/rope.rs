//! Rotary position embedding: frequencies, and the cosines and sines of positions.
//!
//! They are computed in plain Rust, so that every processor gets the same bits.

use std::sync::Mutex;

use tch::{Kind, TchError, Tensor};

use super::{Config, RopeScaling, RotaryTable};

/// The rotary embedding of a model: its frequencies, and a cache of cosines and sines.
pub struct Rope {
    /// Frequencies in f32, as Transformers computes them, `[rotated / 2]`.
    single: Vec<f32>,
    /// Frequencies in f64, for a model in f64, `[rotated / 2]`.
    double: Vec<f64>,
    single_turns: Mutex<Turns<f32>>,
    double_turns: Mutex<Turns<f64>>,
}

/// The cosines and sines of positions 0, 1, 2, ..., each `[positions, rotated / 2]`.
#[derive(Default)]
struct Turns<T> {
    cos: Vec<T>,
    sin: Vec<T>,
}

impl Rope {
    /// Computes the frequencies for `config`: theta^(-2i / rotated) for i = 0, 1, ..., after the model's scaling.
    pub fn new(config: &Config) -> Self {
        Self::of(config.rotated(), config.rope_theta, config.rope_scaling)
    }

    /// Computes the frequencies of layers with a sliding window, if they have their own.
    pub fn local(config: &Config) -> Option<Self> {
        config.variant.local_rope_theta.map(|theta| Self::of(config.rotated(), theta, None))
    }

    fn of(rotated: usize, theta: f64, scaling: Option<RopeScaling>) -> Self {
        let mut single = Vec::with_capacity(rotated / 2);
        let mut double = Vec::with_capacity(rotated / 2);
        for dimension in (0..rotated).step_by(2) {
            let exponent = dimension as f64 / rotated as f64;
            // Transformers rounds the power and its reciprocal to f32, one after the other.
            let rounded: f32 = 1.0 / (libm::pow(theta, f64::from(exponent as f32)) as f32);
            single.push(stretched(scaling, f64::from(rounded)) as f32);
            double.push(stretched(scaling, 1.0 / libm::pow(theta, exponent)));
        }
        Self { single, double, single_turns: Mutex::default(), double_turns: Mutex::default() }
    }

    /// Returns the cosines and sines of positions, each `[positions, rotated / 2]`. They are computed in f32 and
    /// rounded to `kind`, or computed in f64 if `kind` is f64.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn at(&self, positions: &[i64], kind: Kind, device: tch::Device) -> Result<(Tensor, Tensor), TchError> {
        // Transformers multiplies position and frequency in f32; the angle has that rounding in the f32 table only.
        let (cos, sin) = if kind == Kind::Double {
            rows(
                &self.double_turns,
                &self.double,
                positions,
                |position, frequency| position as f64 * frequency,
                |value| value,
            )?
        } else {
            rows(
                &self.single_turns,
                &self.single,
                positions,
                |position, frequency| f64::from(position as f32 * frequency),
                |value| value as f32,
            )?
        };
        let cos = cos.f_to_device(device)?.f_to_kind(kind)?;
        let sin = sin.f_to_device(device)?.f_to_kind(kind)?;
        Ok((cos, sin))
    }
}

/// The cosines and sines of some positions, for each of a model's rotary embeddings.
pub struct RotaryTables {
    /// Cosines and sines of the model's embedding, each `[positions, rotated / 2]`.
    pub global: (Tensor, Tensor),
    /// The same of layers with a sliding window, if they have their own.
    pub local: Option<(Tensor, Tensor)>,
}

impl RotaryTables {
    /// Returns the cosines and sines of one embedding.
    pub fn of(&self, table: RotaryTable) -> (&Tensor, &Tensor) {
        let (cos, sin) = match (table, &self.local) {
            (RotaryTable::Local, Some(local)) => local,
            _ => &self.global,
        };
        (cos, sin)
    }
}

/// Returns the rows of `positions`. Positions that were not requested before are computed first.
fn rows<T: Copy + tch::kind::Element>(
    turns: &Mutex<Turns<T>>,
    frequencies: &[T],
    positions: &[i64],
    angle: impl Fn(usize, T) -> f64,
    round: impl Fn(f64) -> T,
) -> Result<(Tensor, Tensor), TchError> {
    let width = frequencies.len();
    // The cache grows under the lock from the first unknown position on, so its bits do not depend on the order of
    // requests.
    let mut turns = turns.lock().expect("no thread panics while it holds the lock");
    let known = turns.cos.len() / width;
    let needed = positions.iter().max().map_or(0, |&last| last as usize + 1);
    for position in known..needed {
        for &frequency in frequencies {
            let angle = angle(position, frequency);
            turns.cos.push(round(libm::cos(angle)));
            turns.sin.push(round(libm::sin(angle)));
        }
    }
    Ok((gather(&turns.cos, positions, width)?, gather(&turns.sin, positions, width)?))
}

/// Returns the rows of a table of width `width` at the given positions, as a tensor.
fn gather<T: Copy + tch::kind::Element>(table: &[T], positions: &[i64], width: usize) -> Result<Tensor, TchError> {
    let mut flat = Vec::with_capacity(positions.len() * width);
    for &position in positions {
        let start = position as usize * width;
        flat.extend_from_slice(&table[start..start + width]);
    }
    Tensor::f_from_slice(&flat)?.f_view([positions.len() as i64, width as i64])
}

/// Applies the model's RoPE scaling to a frequency.
fn stretched(scaling: Option<RopeScaling>, frequency: f64) -> f64 {
    match scaling {
        None => frequency,
        Some(RopeScaling::Linear { factor }) => frequency / factor,
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions }) => {
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            // 0 for long wavelengths, which are divided, 1 for short ones, which are unchanged, and a ramp in between.
            let kept = (original_positions / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let kept = kept.clamp(0.0, 1.0);
            (1.0 - kept) * frequency / factor + kept * frequency
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_turn_by_the_frequencies_and_scaling_slows_them() {
        let mut config = Config::llama(10, 16, 16, 1, 2);
        let at = |config: &Config, position| {
            let (cos, _) = Rope::new(config).at(&[position], Kind::Float, tch::Device::Cpu).unwrap();
            Vec::<f32>::try_from(cos.flatten(0, -1)).unwrap()
        };
        let plain = at(&config, 3);
        for (i, cos) in plain.iter().enumerate() {
            let angle = 3.0 / 10_000f64.powf(2.0 * i as f64 / 8.0);
            assert!((f64::from(*cos) - angle.cos()).abs() < 1e-6);
        }
        config.rope_scaling = Some(RopeScaling::Linear { factor: 4.0 });
        assert_eq!(at(&config, 12), plain);
        config.rope_scaling = Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_positions: 64.0,
        });
        let inverse = Rope::new(&config).single;
        assert_eq!(inverse[0], 1.0, "a short wavelength is kept");
        assert_eq!(inverse[3], 0.001 / 8.0, "a long wavelength is divided");
        assert!(inverse[1] < 0.1 && inverse[1] > 0.1 / 8.0, "one between is mixed");
    }
}
