//! Named streams of random numbers. No global generator lives here, and none may.
//!
//! Draw `n` of purpose `P` for entity `E` is a pure function of `(seed, P, E, n)`, so two runs that differ in one
//! policy see the same clients, faults and batches, and an added client or draw disturbs no other stream.

mod stream;

pub use stream::{Purpose, Seed, Stream};
