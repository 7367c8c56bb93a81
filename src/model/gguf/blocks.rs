//! The number formats of GGUF tensors, and the exact values of quantized blocks.
//!
//! A quantized row is a sequence of blocks of 32 or 256 numbers, each with its own scales. The layouts are those of
//! ggml's `ggml-common.h`, the order of operations that of `dequantize_row_*` in `ggml-quants.c`: the products and sums
//! are of f32 and each is rounded once, so the values are the same to the bit.

use half::{bf16, f16};

/// A number format of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BlockType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Name of each supported format and its number in the file.
const SUPPORTED: [(BlockType, u32, &str); 11] = [
    (BlockType::F32, 0, "F32"),
    (BlockType::F16, 1, "F16"),
    (BlockType::Bf16, 30, "BF16"),
    (BlockType::Q4_0, 2, "Q4_0"),
    (BlockType::Q4_1, 3, "Q4_1"),
    (BlockType::Q5_0, 6, "Q5_0"),
    (BlockType::Q5_1, 7, "Q5_1"),
    (BlockType::Q8_0, 8, "Q8_0"),
    (BlockType::Q4K, 12, "Q4_K"),
    (BlockType::Q5K, 13, "Q5_K"),
    (BlockType::Q6K, 14, "Q6_K"),
];

/// Formats that are known by name and not supported.
const OTHERS: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl BlockType {
    /// Looks up a format by its number in the file. The error names the format, if it is known, and those supported.
    pub fn of(number: u32) -> Result<Self, String> {
        if let Some((found, ..)) = SUPPORTED.iter().find(|(_, known, _)| *known == number) {
            return Ok(*found);
        }
        let name = OTHERS.iter().find(|(known, _)| *known == number).map_or("unknown", |(_, name)| name);
        let supported: Vec<_> = SUPPORTED.iter().map(|(.., name)| *name).collect();
        Err(format!("has type {number} ({name}), supported are {}", supported.join(", ")))
    }

    /// Returns the name of the format.
    pub fn name(self) -> &'static str {
        SUPPORTED.iter().find(|(known, ..)| *known == self).expect("every format has a name").2
    }

    /// Returns the number of values in a block.
    pub fn values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Returns the number of bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q5K => 2 + 2 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Returns the values of whole blocks.
    pub fn expand(self, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::with_capacity(bytes.len() / self.bytes() * self.values());
        for block in bytes.chunks_exact(self.bytes()) {
            match self {
                Self::F32 => values.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
                Self::F16 => values.push(half_at(block, 0)),
                Self::Bf16 => values.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
                Self::Q4_0 => expand_4_bits(&mut values, half_at(block, 0), &block[2..], Offset::Center(8)),
                Self::Q4_1 => {
                    expand_4_bits(&mut values, half_at(block, 0), &block[4..], Offset::Minimum(half_at(block, 2)));
                }
                Self::Q5_0 => expand_5_bits(&mut values, half_at(block, 0), &block[2..], Offset::Center(16)),
                Self::Q5_1 => {
                    expand_5_bits(&mut values, half_at(block, 0), &block[4..], Offset::Minimum(half_at(block, 2)));
                }
                Self::Q8_0 => {
                    let scale = half_at(block, 0);
                    values.extend(block[2..].iter().map(|&code| f32::from(code as i8) * scale));
                }
                Self::Q4K => expand_k(&mut values, &block[..16], None, &block[16..]),
                Self::Q5K => expand_k(&mut values, &block[..16], Some(&block[16..48]), &block[48..]),
                Self::Q6K => expand_6k(&mut values, block),
            }
        }
        values
    }
}

/// The origin of a block's codes.
#[derive(Clone, Copy)]
enum Offset {
    /// The code that means 0.
    Center(i16),
    /// The value of code 0.
    Minimum(f32),
}

impl Offset {
    fn value(self, code: u8, scale: f32) -> f32 {
        match self {
            Self::Center(center) => f32::from(i16::from(code) - center) * scale,
            Self::Minimum(minimum) => f32::from(code) * scale + minimum,
        }
    }
}

/// Reads an f16 at byte `at`.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Expands 16 bytes: the low halves are values 0 to 15, the high halves values 16 to 31.
fn expand_4_bits(values: &mut Vec<f32>, scale: f32, codes: &[u8], offset: Offset) {
    values.extend(codes.iter().map(|byte| offset.value(byte & 15, scale)));
    values.extend(codes.iter().map(|byte| offset.value(byte >> 4, scale)));
}

/// Expands 4 bytes with the fifth bits of values 0 to 31, and 16 bytes as in [`expand_4_bits`].
fn expand_5_bits(values: &mut Vec<f32>, scale: f32, packed: &[u8], offset: Offset) {
    let fifth = u32::from_le_bytes([packed[0], packed[1], packed[2], packed[3]]);
    let codes = &packed[4..];
    for place in 0..32 {
        let low = if place < 16 { codes[place] & 15 } else { codes[place - 16] >> 4 };
        let high = (fifth >> place & 1) as u8;
        values.push(offset.value(low | high << 4, scale));
    }
}

/// Expands a block of Q4_K or Q5_K: eight groups of 32 values, each with a scale and a minimum of 6 bits.
///
/// `head` holds two f16, which scale the scales and the minima, and 12 bytes with those. Group 2n has the low halves of
/// the n-th 32 bytes of `low`, group 2n + 1 the high ones. Bit g of `fifth` belongs to group g.
fn expand_k(values: &mut Vec<f32>, head: &[u8], fifth: Option<&[u8]>, low: &[u8]) {
    let scale_of_scales = half_at(head, 0);
    let scale_of_minima = half_at(head, 2);
    let packed = &head[4..16];
    for group in 0..8 {
        let (scale, minimum) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            // The last four keep their upper two bits above those of the first four.
            let shared = packed[group + 4];
            ((shared & 15) | (packed[group - 4] >> 6 << 4), (shared >> 4) | (packed[group] >> 6 << 4))
        };
        let scale = scale_of_scales * f32::from(scale);
        let minimum = scale_of_minima * f32::from(minimum);
        for place in 0..32 {
            let byte = low[group / 2 * 32 + place];
            let mut code = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
            if let Some(fifth) = fifth {
                code |= (fifth[place] >> group & 1) << 4;
            }
            values.push(scale * f32::from(code) - minimum);
        }
    }
}

/// Expands a block of Q6_K: 128 bytes with the low 4 bits, 64 with the upper 2, 16 scales, and the scale of the scales.
fn expand_6k(values: &mut Vec<f32>, block: &[u8]) {
    let low = &block[..128];
    let high = &block[128..192];
    let scales = &block[192..208];
    let scale_of_scales = half_at(block, 208);
    for place in 0..256 {
        // Each half of the block has 64 bytes of `low` and 32 of `high`: first 64 values from the low halves of the
        // bytes, then 64 from the high ones; the upper bits of 4 runs of 32 values share a byte.
        let half = place / 128;
        let inside = place % 128;
        let byte = low[half * 64 + inside % 64];
        let nibble = if inside < 64 { byte & 15 } else { byte >> 4 };
        let upper = high[half * 32 + inside % 32] >> (inside / 32 * 2) & 3;
        let code = i16::from(nibble | upper << 4) - 32;
        let scale = scale_of_scales * f32::from(scales[place / 16] as i8);
        values.push(scale * f32::from(code));
    }
}
