//! Rotary position embedding: frequencies, and cosines and sines of given positions.
//!
//! Computed in plain Rust, so that every processor gets the same bits.

use std::sync::Mutex;

use tch::{Kind, Tensor};

use super::{Config, RopeScaling};

/// The rotary embedding of a model: frequencies, and the cosines and sines of positions asked for so far.
pub struct Rope {
    /// As Transformers computes them, in f32; `[head_dim / 2]`.
    single: Vec<f32>,
    /// The same in f64, for a model in f64.
    double: Vec<f64>,
    single_turns: Mutex<Turns<f32>>,
    double_turns: Mutex<Turns<f64>>,
}

/// Cosines and sines of positions 0, 1, 2, ..., each `[positions, head_dim / 2]`.
#[derive(Default)]
struct Turns<T> {
    cos: Vec<T>,
    sin: Vec<T>,
}

impl Rope {
    /// The frequencies of `config`.
    pub fn new(config: &Config) -> Self {
        let exponents = || (0..config.head_dim).step_by(2).map(|n| n as f64 / config.head_dim as f64);
        // Transformers rounds the power and its reciprocal to f32 one after the other.
        let plain = |exponent: f64| 1.0 / (libm::pow(config.rope_theta, f64::from(exponent as f32)) as f32);
        let single = exponents().map(plain).map(|frequency| stretched(config, f64::from(frequency)) as f32).collect();
        let exact = |exponent: f64| stretched(config, 1.0 / libm::pow(config.rope_theta, exponent));
        let double = exponents().map(exact).collect();
        Self { single, double, single_turns: Mutex::default(), double_turns: Mutex::default() }
    }

    /// Cosines and sines of positions, each `[positions, head_dim / 2]`, computed in f32 and rounded to `kind`; in f64
    /// where that is the kind.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn at(&self, positions: &[i64], kind: Kind, device: tch::Device) -> Result<(Tensor, Tensor), tch::TchError> {
        let (cos, sin) = if kind == Kind::Double {
            // An angle beyond f64's exactness has no meaning that could be lost.
            let angle = |position: usize, frequency: f64| position as f64 * frequency;
            rows(&self.double_turns, &self.double, positions, angle, |value| value)?
        } else {
            let angle = |position: usize, frequency: f32| f64::from(position as f32 * frequency);
            rows(&self.single_turns, &self.single, positions, angle, |value| value as f32)?
        };
        let place = |table: Tensor| table.f_to_device(device)?.f_to_kind(kind);
        Ok((place(cos)?, place(sin)?))
    }
}

/// The rows of `positions`; positions not asked for before are computed first.
fn rows<T: Copy + tch::kind::Element>(
    turns: &Mutex<Turns<T>>,
    frequencies: &[T],
    positions: &[i64],
    angle: impl Fn(usize, T) -> f64,
    round: impl Fn(f64) -> T,
) -> Result<(Tensor, Tensor), tch::TchError> {
    let width = frequencies.len();
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
    let gather = |table: &[T]| {
        let flat: Vec<T> =
            positions.iter().flat_map(|&p| &table[p as usize * width..(p as usize + 1) * width]).copied().collect();
        Tensor::f_from_slice(&flat)?.f_view([positions.len() as i64, width as i64])
    };
    Ok((gather(&turns.cos)?, gather(&turns.sin)?))
}

/// A frequency after the model's scaling.
fn stretched(config: &Config, frequency: f64) -> f64 {
    match config.rope_scaling {
        None => frequency,
        Some(RopeScaling::Linear { factor }) => frequency / factor,
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions }) => {
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            // 0 where a wavelength is divided, 1 where it is kept, a ramp between.
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
