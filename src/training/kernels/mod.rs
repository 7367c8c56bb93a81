//! Tensor operations of a pass: the program's own kernels on a CPU, LibTorch's elsewhere, behind one interface.
//!
//! [`ops`] and [`attention`] choose between [`native`] and [`by_libtorch`]. All unsafe code of the program is in [`native`].

pub mod attention;
pub mod by_libtorch;
pub mod llm_int8;
pub mod native;
pub mod ops;
