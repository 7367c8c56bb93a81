//! Quantized linear weights: rounding to fewer bits, and expansion back to a floating-point type.
//!
//! Every operation here is exact or rounds once according to IEEE 754, so codes and expanded weights are the same on
//! every processor.

mod int8;
mod nf4;

pub use int8::Int8;
pub use nf4::{BLOCK, DOUBLE_BLOCK, Nf4, codebook, dynamic_codebook, midpoints};
