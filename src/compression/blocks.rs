//! Blocks of neighboring values that share a scale, which is written ahead of all codes.

/// Number of values that share an absolute maximum: that of NF4.
pub const BLOCK: usize = crate::model::quantized::BLOCK as usize;

/// [byte] -- Length of a scale in f32.
pub const SCALE_BYTES: usize = 4;

/// [byte] -- Returns the length of the scales of blocks of `size` values.
pub fn scale_bytes(count: usize, size: usize) -> usize {
    SCALE_BYTES * count.div_ceil(size)
}

/// Appends the scale of each block of `size` values to `out`, and returns the scales.
pub fn write_scales(values: &[f32], size: usize, scale: impl Fn(&[f32]) -> f32, out: &mut Vec<u8>) -> Vec<f32> {
    let scales: Vec<f32> = values.chunks(size).map(scale).collect();
    out.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
    scales
}

/// Reads the scales at the beginning of the bytes of `count` values, and returns them with the bytes of the codes.
pub fn read_scales(bytes: &[u8], count: usize, size: usize) -> (Vec<f32>, &[u8]) {
    let (scales, codes) = bytes.split_at(scale_bytes(count, size));
    (singles(scales).collect(), codes)
}

/// Reads little-endian values.
pub fn singles(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(SCALE_BYTES).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// Returns the absolute maximum of a block.
pub fn absolute_maximum(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |most, value| most.max(value.abs()))
}
