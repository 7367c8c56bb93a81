//! Named streams of random numbers and the integer distributions drawn from them. No global generator lives here, and
//! none may.
//!
//! Draw `n` of purpose `P` for entity `E` is a pure function of `(seed, P, E, n)`, so two runs that differ in one
//! policy see the same clients, faults and batches, and an added client or draw disturbs no other stream.

mod permutation;
mod probability;
mod quantiles;
mod seeds;
mod stream;

pub use permutation::Permutation;
pub use probability::Probability;
pub use quantiles::Quantiles;
pub(crate) use seeds::Seeds;
pub use stream::{Purpose, Seed, Stream};
