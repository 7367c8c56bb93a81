//! Rotary position embedding: frequencies, and cosines and sines of given positions.

use tch::{Kind, Tensor};

use super::{Config, RopeScaling};

/// The frequencies of a model's rotary embedding, `[head_dim / 2]`.
pub struct Rope {
    /// As Transformers computes them, in f32.
    single: Tensor,
    /// The same in f64, for a model in f64.
    double: Tensor,
}

impl Rope {
    /// The frequencies of `config`, on the CPU.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn new(config: &Config) -> Result<Self, tch::TchError> {
        Ok(Self { single: frequencies(config, Kind::Float)?, double: frequencies(config, Kind::Double)? })
    }

    /// Cosines and sines, each `[positions, head_dim / 2]`, computed in f32 and rounded to `kind`; in f64 where that is
    /// the kind.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn at(&self, positions: &[i64], kind: Kind, device: tch::Device) -> Result<(Tensor, Tensor), tch::TchError> {
        let frequencies = if kind == Kind::Double { &self.double } else { &self.single };
        let positions = Tensor::f_from_slice(positions)?.f_to_kind(frequencies.kind())?.f_unsqueeze(1)?;
        let angles = positions.f_mul(&frequencies.f_unsqueeze(0)?)?;
        let place = |table: Tensor| table.f_to_device(device)?.f_to_kind(kind);
        Ok((place(angles.f_cos()?)?, place(angles.f_sin()?)?))
    }
}

fn frequencies(config: &Config, kind: Kind) -> Result<Tensor, tch::TchError> {
    let exponents = Tensor::f_arange_start_step(0, config.head_dim as i64, 2, (Kind::Int64, tch::Device::Cpu))?;
    let exponents = exponents.f_to_kind(kind)?.f_div_scalar(config.head_dim as i64)?;
    let plain = Tensor::f_pow_scalar(config.rope_theta, &exponents)?.f_reciprocal()?;
    match config.rope_scaling {
        None => Ok(plain),
        Some(RopeScaling::Linear { factor }) => plain.f_div_scalar(factor),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions }) => {
            let stretch = |&frequency: &f64| {
                let wavelength = 2.0 * std::f64::consts::PI / frequency;
                // 0 where a wavelength is divided, 1 where it is kept, a ramp between.
                let kept = (original_positions / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let kept = kept.clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            };
            let values = Vec::<f64>::try_from(plain.f_to_kind(Kind::Double)?)?;
            Tensor::f_from_slice(&values.iter().map(stretch).collect::<Vec<_>>())?.f_to_kind(kind)
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
            let (cos, _) = Rope::new(config).unwrap().at(&[position], Kind::Float, tch::Device::Cpu).unwrap();
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
        let inverse = Vec::<f32>::try_from(&Rope::new(&config).unwrap().single).unwrap();
        assert_eq!(inverse[0], 1.0, "a short wavelength is kept");
        assert_eq!(inverse[3], 0.001 / 8.0, "a long wavelength is divided");
        assert!(inverse[1] < 0.1 && inverse[1] > 0.1 / 8.0, "one between is mixed");
    }
}
