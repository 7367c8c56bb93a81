//! 4-bit NormalFloat in blocks under their absolute maximum, with or without double quantisation (arXiv 2305.14314).

use tch::{Kind, TchError, Tensor};

/// Weights that share an absolute maximum.
pub const BLOCK: i64 = 64;

/// Maxima that share one of their own, under double quantisation.
pub const DOUBLE_BLOCK: i64 = 256;

/// The sixteen values of NormalFloat4, from the paper's appendix E: quantiles of the normal distribution scaled to -1..1,
/// with an exact zero. They are read as f32.
const VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The values that codes 0 to 15 stand for, ascending.
pub fn codebook() -> [f32; 16] {
    VALUES
}

/// The 256 values of the 8-bit type in which maxima are held under double quantisation, ascending.
///
/// Seven decades, each with twice as many values as the one below it, on both sides of zero (8-bit dynamic tree
/// quantisation, arXiv 2110.02861).
pub fn dynamic_codebook() -> Vec<f32> {
    let mut values = vec![0.0f32, 1.0];
    for decade in 0..7 {
        let steps = 1u32 << decade;
        let power = 10f64.powi(decade - 6);
        let boundary = |n: u32| (0.1 + 0.9 * f64::from(n) / f64::from(steps)) as f32;
        for n in 0..steps {
            let mean = (boundary(n) + boundary(n + 1)) / 2.0;
            let value = mean * power as f32;
            values.extend([value, -value]);
        }
    }
    values.sort_by(f32::total_cmp);
    values
}

/// A weight in NormalFloat4: blocks of [`BLOCK`] values in the order of rows.
pub struct Nf4 {
    /// Two codes a byte, the first in the upper half.
    codes: Tensor,
    maxima: Maxima,
    shape: [i64; 2],
}

/// The absolute maxima of the blocks.
enum Maxima {
    /// f32.
    Plain(Tensor),
    /// 8-bit codes of their distance from a mean, under maxima of their own.
    Double { codes: Tensor, most: Tensor, mean: f64 },
}

impl Nf4 {
    /// Rounds `[out, in]`. Each value becomes the nearest of the sixteen after division by its block's maximum.
    pub fn round(weight: &Tensor, double: bool) -> Result<Self, TchError> {
        let (rows, columns) = weight.size2()?;
        let blocks = blocks(&weight.f_to_kind(Kind::Float)?, BLOCK)?;
        let most = blocks.f_abs()?.f_amax([1i64], true)?;
        let scaled = blocks.f_div(&most.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
        let codes = nearest(&scaled, &VALUES)?.f_view([-1, 2])?.f_to_kind(Kind::Uint8)?;
        let (first, second) = (codes.f_select(1, 0)?, codes.f_select(1, 1)?);
        let codes = first.f_mul_scalar(16i64)?.f_add(&second)?;
        let most = most.f_squeeze_dim(1)?;
        let maxima = if double { Maxima::round(&most)? } else { Maxima::Plain(most) };
        Ok(Self { codes, maxima, shape: [rows, columns] })
    }

    /// The weights that the codes stand for, rounded to `kind` once.
    pub fn expanded(&self, kind: Kind) -> Result<Tensor, TchError> {
        let device = self.codes.device();
        let pairs: Vec<f32> = (0..256).flat_map(|byte| [VALUES[byte >> 4], VALUES[byte & 15]]).collect();
        let pairs = Tensor::f_from_slice(&pairs)?.f_view([256, 2])?.f_to_device(device)?;
        let values = pairs.f_index_select(0, &self.codes.f_to_kind(Kind::Int)?)?.f_view([-1, BLOCK])?;
        let weights = values.f_mul(&self.maxima.expanded()?.f_unsqueeze(1)?)?.f_to_kind(kind)?;
        let [rows, columns] = self.shape;
        weights.f_flatten(0, -1)?.f_narrow(0, 0, rows * columns)?.f_view([rows, columns])
    }

    /// Codes and maxima as they lie in memory, for checks: two codes a byte, and the f32 maxima that they are used with.
    pub fn parts(&self) -> Result<(Tensor, Tensor), TchError> {
        Ok((self.codes.shallow_clone(), self.maxima.expanded()?))
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [i64; 2] {
        self.shape
    }

    /// Where it lies.
    pub fn device(&self) -> tch::Device {
        self.codes.device()
    }

    /// Weights that it stands for.
    pub fn elements(&self) -> usize {
        (self.shape[0] * self.shape[1]) as usize
    }

    /// What it takes in memory [byte].
    pub fn bytes(&self) -> u64 {
        let maxima = match &self.maxima {
            Maxima::Plain(most) => 4 * most.numel(),
            Maxima::Double { codes, most, .. } => codes.numel() + 4 * most.numel() + 4,
        };
        (self.codes.numel() + maxima) as u64
    }
}

impl Maxima {
    fn round(most: &Tensor) -> Result<Self, TchError> {
        // Summed here in one order: a library's mean depends on how it splits the sum.
        let values = Vec::<f32>::try_from(most.f_to_device(tch::Device::Cpu)?)?;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let mean = f64::from(mean as f32);
        let blocks = blocks(&most.f_sub_scalar(mean)?, DOUBLE_BLOCK)?;
        let of_blocks = blocks.f_abs()?.f_amax([1i64], true)?;
        let scaled = blocks.f_div(&of_blocks.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
        let codes = nearest(&scaled, &dynamic_codebook())?.f_flatten(0, -1)?.f_narrow(0, 0, most.numel() as i64)?;
        Ok(Self::Double { codes: codes.f_to_kind(Kind::Uint8)?, most: of_blocks.f_squeeze_dim(1)?, mean })
    }

    fn expanded(&self) -> Result<Tensor, TchError> {
        match self {
            Maxima::Plain(most) => Ok(most.shallow_clone()),
            Maxima::Double { codes, most, mean } => {
                let values = Tensor::f_from_slice(&dynamic_codebook())?.f_to_device(codes.device())?;
                let values = values.f_index_select(0, &codes.f_to_kind(Kind::Int)?)?;
                let scaled = blocks(&values, DOUBLE_BLOCK)?.f_mul(&most.f_unsqueeze(1)?)?;
                scaled.f_flatten(0, -1)?.f_narrow(0, 0, codes.numel() as i64)?.f_add_scalar(*mean)
            }
        }
    }
}

/// The values in the order of memory as `[blocks, size]`, the last block filled with zeros.
fn blocks(values: &Tensor, size: i64) -> Result<Tensor, TchError> {
    let flat = values.f_contiguous()?.f_flatten(0, -1)?;
    let missing = (size - flat.numel() as i64 % size) % size;
    let whole = if missing == 0 { flat } else { flat.f_constant_pad_nd([0, missing])? };
    whole.f_view([-1, size])
}

/// The index of the nearest of ascending `values`; half-way between two, the lower.
fn nearest(x: &Tensor, values: &[f32]) -> Result<Tensor, TchError> {
    let between: Vec<f32> =
        values.windows(2).map(|two| ((f64::from(two[0]) + f64::from(two[1])) / 2.0) as f32).collect();
    x.f_bucketize(&Tensor::f_from_slice(&between)?.f_to_device(x.device())?, true, false)
}
