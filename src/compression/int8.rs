//! int8 in blocks: each value is round(127 v / m), to even, with the block's absolute maximum m in f32.

use serde::Serialize;

use super::Encoding;
use super::blocks::{BLOCK, absolute_maximum, read_scales, scale_bytes, write_scales};

/// int8 codec.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Int8Blocks;

impl Encoding for Int8Blocks {
    fn bytes(&self, count: usize) -> usize {
        scale_bytes(count, BLOCK) + count
    }

    fn encode(&self, values: &[f32], _: &mut dyn FnMut() -> f64, out: &mut Vec<u8>) {
        let maxima = write_scales(values, BLOCK, absolute_maximum, out);
        for (block, &most) in values.chunks(BLOCK).zip(&maxima) {
            // A block of zeros has maximum 0; any other divisor gives codes of 0. In f64, 127 v is finite for every f32.
            let most = if most > 0.0 { f64::from(most) } else { 1.0 };
            out.extend(block.iter().map(|&value| (127.0 * f64::from(value) / most).round_ties_even() as i8 as u8));
        }
    }

    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        let (maxima, codes) = read_scales(bytes, values.len(), BLOCK);
        for ((block, codes), most) in values.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(maxima) {
            for (value, &code) in block.iter_mut().zip(codes) {
                *value = (f64::from(code as i8) * f64::from(most) / 127.0) as f32;
            }
        }
    }
}
