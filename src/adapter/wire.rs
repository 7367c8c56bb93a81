//! Wire formats of adapters between client and server, and their sizes.

use std::sync::Arc;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::{Adapter, AdapterError, Factors, Layout};

/// Format of values on the wire. The layout is agreed on in advance and is not transmitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WireFormat {
    /// Four bytes per value, exact.
    F32,
    /// IEEE half precision, two bytes per value; values beyond ±65504 become infinite and are rejected by [`decode`].
    F16,
    /// bfloat16, two bytes per value, rounded to nearest.
    Bf16,
    /// One byte per value and one f32 scale per matrix row: value = code × scale, scale = row's absolute maximum / 127.
    Int8,
}

/// [byte] -- Returns the length of an encoded adapter.
pub fn wire_bytes(layout: &Layout, format: WireFormat) -> u64 {
    wire_bytes_of(layout, format, Factors::Both)
}

/// [byte] -- Returns the length of some factors of an adapter, encoded.
pub fn wire_bytes_of(layout: &Layout, format: WireFormat, factors: Factors) -> u64 {
    let values = factors.count(layout) as u64;
    match format {
        WireFormat::F32 => 4 * values,
        WireFormat::F16 | WireFormat::Bf16 => 2 * values,
        WireFormat::Int8 => {
            let mut scales = 0;
            for (module, [has_a, has_b, has_core]) in layout.modules.iter().zip(factors.by_module(layout)) {
                scales += if has_a { layout.rank as u64 } else { 0 };
                scales += if has_b { module.out_features as u64 } else { 0 };
                scales += if has_core { layout.rank as u64 } else { 0 };
            }
            values + 4 * scales
        }
    }
}

/// Encodes an adapter, little-endian and in the layout's order.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use fedreplay::adapter::{Adapter, Layout, Module, WireFormat, decode, encode};
/// use fedreplay_sim::Seed;
///
/// let q_proj = Module { path: "model.layers.0.self_attn.q_proj".into(), in_features: 16, out_features: 8 };
/// let layout = Layout { rank: 2, alpha: 4.0, rank_stabilized: false, has_core: false, modules: vec![q_proj] };
/// let adapter = Adapter::initial(Arc::new(layout), Seed(1));
/// let bytes = encode(&adapter, WireFormat::Bf16);
/// assert_eq!(bytes.len(), 2 * adapter.values.len());
/// let received = decode(&bytes, &adapter.layout, WireFormat::Bf16)?;
/// assert!(received.difference(&adapter).norm() < adapter.norm() / 256.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode(adapter: &Adapter, format: WireFormat) -> Vec<u8> {
    let values = adapter.values.iter();
    match format {
        WireFormat::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
        WireFormat::F16 => values.flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        WireFormat::Bf16 => values.flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        WireFormat::Int8 => encode_rows(adapter),
    }
}

/// Decodes the bytes of [`encode`].
///
/// # Errors
/// If the length is not [`wire_bytes`] of the layout, or a value is not finite.
pub fn decode(bytes: &[u8], layout: &Arc<Layout>, format: WireFormat) -> Result<Adapter, AdapterError> {
    let expected = wire_bytes(layout, format);
    if bytes.len() as u64 != expected {
        let reason = format!("expected {expected} bytes as {format:?}, found {}", bytes.len());
        return Err(AdapterError::content("an encoded adapter", reason));
    }
    let values = match format {
        WireFormat::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        WireFormat::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        WireFormat::Bf16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        WireFormat::Int8 => decode_rows(bytes, layout),
    };
    let adapter = Adapter::new(layout.clone(), values);
    if !adapter.is_finite() {
        return Err(AdapterError::content("an encoded adapter", "a value is NaN or infinite"));
    }
    Ok(adapter)
}

/// Encodes each matrix row as its scale and one code per value.
fn encode_rows(adapter: &Adapter) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(wire_bytes(&adapter.layout, WireFormat::Int8) as usize);
    for (_, [_, width], range) in adapter.layout.tensors() {
        for row in adapter.values[range].chunks_exact(width) {
            let scale = row.iter().fold(0.0f32, |most, v| most.max(v.abs())) / 127.0;
            // A row of zeros has scale 0, by which nothing can be divided.
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            bytes.extend(scale.to_le_bytes());
            bytes.extend(row.iter().map(|v| (v * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8));
        }
    }
    bytes
}

fn decode_rows(bytes: &[u8], layout: &Layout) -> Vec<f32> {
    let mut values = Vec::with_capacity(layout.parameters());
    let mut rest = bytes;
    for (_, [rows, width], _) in layout.tensors() {
        for _ in 0..rows {
            let (row, after) = rest.split_at(4 + width);
            let scale = f32::from_le_bytes([row[0], row[1], row[2], row[3]]);
            values.extend(row[4..].iter().map(|&code| f32::from(code as i8) * scale));
            rest = after;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::values::tests::filled;

    fn round_trip(format: WireFormat) -> f64 {
        let adapter = filled();
        let bytes = encode(&adapter, format);
        assert_eq!(bytes.len() as u64, wire_bytes(&adapter.layout, format));
        assert!(decode(&bytes[1..], &adapter.layout, format).is_err());
        let back = decode(&bytes, &adapter.layout, format).unwrap();
        back.difference(&adapter).norm() / adapter.norm()
    }

    #[test]
    fn each_format_loses_no_more_than_its_precision() {
        assert_eq!(round_trip(WireFormat::F32), 0.0);
        assert!(round_trip(WireFormat::F16) < 1e-3);
        assert!(round_trip(WireFormat::Bf16) < 4e-3);
        let int8 = round_trip(WireFormat::Int8);
        assert!(int8 > 0.0 && int8 < 1e-2, "{int8}");
    }

    #[test]
    fn a_value_that_half_precision_cannot_hold_is_refused() {
        let mut adapter = filled();
        adapter.values[3] = 1e6;
        let bytes = encode(&adapter, WireFormat::F16);
        assert!(decode(&bytes, &adapter.layout, WireFormat::F16).is_err());
    }
}
