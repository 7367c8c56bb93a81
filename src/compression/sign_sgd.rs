//! Scaled sign: Karimireddy et al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML 2019, arXiv
//! 1901.09847, EF-signSGD: C(v) = (mean of |v_i|) sign(v), matrix by matrix.

use serde::Serialize;

use super::Encoding;
use super::bits::{pack, packed_bytes, unpack};
use super::blocks::{SCALE_BYTES, singles};

/// [bit] -- Width of a sign: 1 is negative.
const WIDTH: u32 = 1;

/// Scaled sign codec. A value of zero is sent as positive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SignSgd;

impl Encoding for SignSgd {
    fn bytes(&self, count: usize) -> usize {
        SCALE_BYTES + packed_bytes(count, WIDTH)
    }

    fn encode(&self, values: &[f32], _: &mut dyn FnMut() -> f64, out: &mut Vec<u8>) {
        let sum: f64 = values.iter().map(|&value| f64::from(value.abs())).sum();
        let mean = (sum / values.len() as f64) as f32;
        out.extend(mean.to_le_bytes());
        pack(values.iter().map(|&value| u32::from(value < 0.0)), WIDTH, out);
    }

    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        let (mean, signs) = bytes.split_at(SCALE_BYTES);
        let mean = singles(mean).next().expect("four bytes are a number");
        for (value, sign) in values.iter_mut().zip(unpack(signs, WIDTH)) {
            *value = if sign == 1 { -mean } else { mean };
        }
    }
}
