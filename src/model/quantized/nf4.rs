//! 4-bit NormalFloat in blocks scaled by their absolute maximum, with or without double quantization (arXiv
//! 2305.14314).

use tch::{Kind, TchError, Tensor};

/// Number of weights that share an absolute maximum.
pub const BLOCK: i64 = 64;

/// Number of maxima that share an absolute maximum under double quantization.
pub const DOUBLE_BLOCK: i64 = 256;

/// The sixteen values of NormalFloat4 from the paper's appendix E, as f32: quantiles of the normal distribution scaled
/// to
/// -1..1, with an exact zero.
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

/// Returns the values of codes 0 to 15, in ascending order.
pub fn codebook() -> [f32; 16] {
    VALUES
}

/// Returns the 256 values of the 8-bit type that stores maxima under double quantization, in ascending order.
///
/// There are seven decades on both sides of zero, each with twice as many values as the one below it (8-bit dynamic
/// tree quantization, arXiv 2110.02861).
pub fn dynamic_codebook() -> Vec<f32> {
    let mut values = vec![0.0f32, 1.0];
    for decade in 0..7 {
        let steps = 1u32 << decade;
        let power = 10f64.powi(decade - 6);
        // A value is the mean of two neighboring boundaries, which divide 0.1..1 evenly, times the power of the decade.
        for n in 0..steps {
            let mean = (boundary(n, steps) + boundary(n + 1, steps)) / 2.0;
            let value = mean * power as f32;
            values.extend([value, -value]);
        }
    }
    values.sort_by(f32::total_cmp);
    values
}

/// Returns the n-th of the boundaries that divide 0.1..1 into `steps` parts.
fn boundary(n: u32, steps: u32) -> f32 {
    (0.1 + 0.9 * f64::from(n) / f64::from(steps)) as f32
}

/// A weight in NormalFloat4: blocks of [`BLOCK`] values in row-major order.
pub struct Nf4 {
    /// Two codes per byte, the first in the upper half.
    codes: Tensor,
    maxima: Maxima,
    shape: [i64; 2],
}

/// The absolute maxima of the blocks.
enum Maxima {
    /// Maxima in f32.
    Plain(Tensor),
    /// 8-bit codes of the deviations from the mean, in blocks scaled by their own maxima.
    Double { codes: Tensor, most: Tensor, mean: f64 },
}

impl Nf4 {
    /// Rounds a matrix `[out, in]`: each value, divided by its block's maximum, becomes the nearest of the sixteen.
    pub fn round(weight: &Tensor, double: bool) -> Result<Self, TchError> {
        let (rows, columns) = weight.size2()?;
        let blocks = blocks(&weight.f_to_kind(Kind::Float)?, BLOCK)?;
        let most = blocks.f_abs()?.f_amax([1i64], true)?;
        let scaled = blocks.f_div(&most.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
        // Packs two neighboring codes into one byte: 16 first + second. A block is of even length, so pairs never
        // cross.
        let pairs = nearest(&scaled, &VALUES)?.f_view([-1, 2])?.f_to_kind(Kind::Uint8)?;
        let first = pairs.f_select(1, 0)?;
        let second = pairs.f_select(1, 1)?;
        let codes = first.f_mul_scalar(16i64)?.f_add(&second)?;
        let most = most.f_squeeze_dim(1)?;
        let maxima = if double { Maxima::round(&most)? } else { Maxima::Plain(most) };
        Ok(Self { codes, maxima, shape: [rows, columns] })
    }

    /// Returns the weights that the codes represent, rounded to `kind` once.
    pub fn expanded(&self, kind: Kind) -> Result<Tensor, TchError> {
        let device = self.codes.device();
        // A table from each byte to its two values turns unpacking into one lookup.
        let pairs: Vec<f32> = (0..256).flat_map(|byte| [VALUES[byte >> 4], VALUES[byte & 15]]).collect();
        let pairs = Tensor::f_from_slice(&pairs)?.f_view([256, 2])?.f_to_device(device)?;
        let values = pairs.f_index_select(0, &self.codes.f_to_kind(Kind::Int)?)?.f_view([-1, BLOCK])?;
        let weights = values.f_mul(&self.maxima.expanded()?.f_unsqueeze(1)?)?.f_to_kind(kind)?;
        let [rows, columns] = self.shape;
        weights.f_flatten(0, -1)?.f_narrow(0, 0, rows * columns)?.f_view([rows, columns])
    }

    /// Returns the packed codes, two per byte, and the maxima in f32, for checks.
    pub fn parts(&self) -> Result<(Tensor, Tensor), TchError> {
        Ok((self.codes.shallow_clone(), self.maxima.expanded()?))
    }

    /// Returns the shape `[out, in]`.
    pub fn shape(&self) -> [i64; 2] {
        self.shape
    }

    /// Returns the device that holds the codes.
    pub fn device(&self) -> tch::Device {
        self.codes.device()
    }

    /// Returns the number of weights.
    pub fn elements(&self) -> usize {
        (self.shape[0] * self.shape[1]) as usize
    }

    /// Returns the memory that the weight takes, in bytes.
    pub fn bytes(&self) -> u64 {
        let maxima = match &self.maxima {
            Maxima::Plain(most) => 4 * most.numel(),
            // One byte per code, an f32 maximum per block of codes, and the mean as an f32.
            Maxima::Double { codes, most, .. } => codes.numel() + 4 * most.numel() + 4,
        };
        (self.codes.numel() + maxima) as u64
    }
}

impl Maxima {
    /// Quantizes the maxima of the blocks: deviations from their mean, in blocks scaled by their absolute maximum.
    fn round(most: &Tensor) -> Result<Self, TchError> {
        // Summed in a fixed order: the mean of a library depends on how it splits the sum.
        let values = Vec::<f32>::try_from(most.f_to_device(tch::Device::Cpu)?)?;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let mean = f64::from(mean as f32);
        let blocks = blocks(&most.f_sub_scalar(mean)?, DOUBLE_BLOCK)?;
        let of_blocks = blocks.f_abs()?.f_amax([1i64], true)?;
        let scaled = blocks.f_div(&of_blocks.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
        let codes = nearest(&scaled, &dynamic_codebook())?.f_flatten(0, -1)?.f_narrow(0, 0, most.numel() as i64)?;
        Ok(Self::Double { codes: codes.f_to_kind(Kind::Uint8)?, most: of_blocks.f_squeeze_dim(1)?, mean })
    }

    /// Returns the maxima in f32.
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

/// Returns the values in row-major order as `[blocks, size]`, the last block padded with zeros.
fn blocks(values: &Tensor, size: i64) -> Result<Tensor, TchError> {
    let flat = values.f_contiguous()?.f_flatten(0, -1)?;
    let missing = (size - flat.numel() as i64 % size) % size;
    let whole = if missing == 0 { flat } else { flat.f_constant_pad_nd([0, missing])? };
    whole.f_view([-1, size])
}

/// Returns, for each element of `x`, the index of the nearest of ascending `values`; of two equally near ones, the
/// lower.
fn nearest(x: &Tensor, values: &[f32]) -> Result<Tensor, TchError> {
    // The index is the number of midpoints that lie below x.
    x.f_bucketize(&Tensor::f_from_slice(&midpoints(values))?.f_to_device(x.device())?, true, false)
}

/// Returns the midpoints between neighboring values.
pub fn midpoints(values: &[f32]) -> Vec<f32> {
    values.windows(2).map(|two| ((f64::from(two[0]) + f64::from(two[1])) / 2.0) as f32).collect()
}
