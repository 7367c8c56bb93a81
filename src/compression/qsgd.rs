//! QSGD: Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding", NIPS 2017, arXiv 1610.02132,
//! section 3.1, in buckets, and with codes of a fixed width instead of Elias codes.

use serde::Serialize;

use super::Encoding;
use super::bits::{pack, packed_bytes, unpack};
use super::blocks::{read_scales, scale_bytes, write_scales};

/// QSGD with s levels. A value v of a bucket with L2 norm n becomes sign(v) n l / s, where l is s |v| / n rounded up with the
/// probability of its fractional part, else down: its mean is v.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Qsgd {
    /// [levels] -- Levels above zero, s.
    pub levels: u32,
    /// [values] -- Neighboring values that share a norm.
    pub bucket: u32,
}

impl Qsgd {
    /// [bit] -- Returns the width of a level and a sign, which is the lowest bit.
    fn width(&self) -> u32 {
        1 + u32::BITS - self.levels.leading_zeros()
    }

    /// Returns the level of a magnitude, relative to its bucket's norm.
    fn level(&self, ratio: f64, draw: f64) -> u32 {
        let exact = ratio * f64::from(self.levels);
        let lower = exact.floor();
        let level = lower as u32 + u32::from(draw < exact - lower);
        level.min(self.levels)
    }
}

impl Encoding for Qsgd {
    fn bytes(&self, count: usize) -> usize {
        scale_bytes(count, self.bucket as usize) + packed_bytes(count, self.width())
    }

    fn encode(&self, values: &[f32], draw: &mut dyn FnMut() -> f64, out: &mut Vec<u8>) {
        let bucket = self.bucket as usize;
        let norms = write_scales(values, bucket, norm_above, out);
        let mut codes = Vec::with_capacity(values.len());
        for (values, norm) in values.chunks(bucket).zip(norms) {
            // A bucket of zeros has norm 0; any other divisor gives levels of 0.
            let norm = if norm > 0.0 { f64::from(norm) } else { 1.0 };
            for &value in values {
                // One draw for each value, so that the draw of a value depends on its place alone.
                let level = self.level(f64::from(value).abs() / norm, draw());
                codes.push(level << 1 | u32::from(value < 0.0));
            }
        }
        pack(codes.into_iter(), self.width(), out);
    }

    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        let bucket = self.bucket as usize;
        let (norms, codes) = read_scales(bytes, values.len(), bucket);
        let mut codes = unpack(codes, self.width());
        for (values, norm) in values.chunks_mut(bucket).zip(norms) {
            for (value, code) in values.iter_mut().zip(&mut codes) {
                let magnitude = f64::from(norm) * f64::from(code >> 1) / f64::from(self.levels);
                let sign = if code & 1 == 1 { -1.0 } else { 1.0 };
                *value = (sign * magnitude) as f32;
            }
        }
    }
}

/// Computes the L2 norm of a bucket, rounded up to f32: no magnitude is above it, as would be if it was rounded down. The largest
/// f32 takes the place of what is beyond it.
fn norm_above(values: &[f32]) -> f32 {
    let squares: f64 = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let exact = squares.sqrt();
    let nearest = exact as f32;
    let above = if f64::from(nearest) < exact { nearest.next_up() } else { nearest };
    above.min(f32::MAX)
}
