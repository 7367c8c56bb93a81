//! Linear weights in fewer bits: how they are rounded, and how they are expanded again.
//!
//! Every operation here is exact or rounds once as IEEE 754 says, so codes and expanded weights are the same on every
//! processor.

mod int8;
mod nf4;

pub use int8::Int8;
pub use nf4::{BLOCK, DOUBLE_BLOCK, Nf4, codebook, dynamic_codebook};
