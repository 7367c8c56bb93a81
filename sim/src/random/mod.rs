//! Named streams of random numbers, and integer distributions drawn from them. There is no global generator.
//!
//! Draw `n` of purpose `P` for entity `E` is a pure function of `(seed, P, E, n)`. Two runs that differ in one policy
//! therefore see the same clients, faults and batches, and an added client or draw does not affect other streams.

mod permutation;
mod probability;
mod quantiles;
mod stream;

pub use permutation::Permutation;
pub use probability::Probability;
pub use quantiles::{Quantiles, normal_quantile};
pub(crate) use stream::Seeds;
pub use stream::{Purpose, Seed, Stream};
