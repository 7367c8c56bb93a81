//! NormalFloat4 in blocks (arXiv 2305.14314, appendix E): each value divided by the block's absolute maximum becomes the nearest of
//! sixteen values, as in weights in NF4 without double quantization.

use serde::Serialize;

use super::Encoding;
use super::bits::{pack, packed_bytes, unpack};
use super::blocks::{BLOCK, absolute_maximum, read_scales, scale_bytes, write_scales};
use crate::model::quantized::{codebook, midpoints};

/// [bit] -- Width of a code.
const WIDTH: u32 = 4;

/// NF4 codec.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Nf4Blocks;

impl Encoding for Nf4Blocks {
    fn bytes(&self, count: usize) -> usize {
        scale_bytes(count, BLOCK) + packed_bytes(count, WIDTH)
    }

    fn encode(&self, values: &[f32], _: &mut dyn FnMut() -> f64, out: &mut Vec<u8>) {
        let midpoints = midpoints(&codebook());
        let maxima = write_scales(values, BLOCK, absolute_maximum, out);
        let mut codes = Vec::with_capacity(values.len());
        for (block, most) in values.chunks(BLOCK).zip(maxima) {
            // The smallest normal number avoids 0 / 0 in a block of zeros.
            let most = most.max(f32::MIN_POSITIVE);
            // The nearest value's number is that of the midpoints below; between two equally near ones the lower.
            codes.extend(block.iter().map(|value| midpoints.partition_point(|&middle| middle < value / most) as u32));
        }
        pack(codes.into_iter(), WIDTH, out);
    }

    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        let (maxima, codes) = read_scales(bytes, values.len(), BLOCK);
        let codebook = codebook();
        let mut codes = unpack(codes, WIDTH);
        for (block, most) in values.chunks_mut(BLOCK).zip(maxima) {
            for (value, code) in block.iter_mut().zip(&mut codes) {
                *value = codebook[code as usize] * most;
            }
        }
    }
}
