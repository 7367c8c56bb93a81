//! Computation by LibTorch's operations instead of the program's own kernels: on a GPU, on a CPU without AVX2, in f64,
//! and everywhere under `execution.kernels: LibTorch`.
//!
//! Like the program's own kernels it is designed to be batch-invariant: the bits of a job depend only on its inputs.
//! LibTorch's libraries choose their kernels by the shape, the strides and the alignment of an operation, so [`blocks`]
//! and [`attention`] make these independent of other jobs. This was tested on CPUs; it has not been run on a GPU yet.

pub mod attention;
pub mod blocks;
