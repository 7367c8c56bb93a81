//! A federation in virtual time: which client does what, when, and whether it counts.
//!
//! This crate knows clients, bytes, seconds and identifiers; never tensors, files, threads or clocks.

pub mod random;

pub use random::{Purpose, Seed, Stream};
