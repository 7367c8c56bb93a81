//! What LibTorch's operations compute instead of the program's own kernels: on a GPU, on a CPU that lacks AVX2, in f64,
//! and everywhere under `execution.kernels: LibTorch`.
//!
//! The design is that of the own kernels: the bits of a job depend on its inputs alone, not on what shares the pass with
//! it. LibTorch's libraries choose their kernels by the shape, the strides and the alignment of an operation, so
//! [`blocks`] and [`attention`] see to it that none of these depends on other jobs. It has been tested on CPUs; on a GPU
//! it has not been run yet.

pub mod attention;
pub mod blocks;
