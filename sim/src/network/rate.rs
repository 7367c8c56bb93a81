//! Rates of transfer, fine enough that a bit a second is a whole number.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A rate of transfer [10^-6 byte/s].
///
/// Microbytes, because an eighth of a bit rate must be whole, and because the share of one of 100,000 flows must not
/// lose digits. The greatest rate is 18 TB/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u64);

impl Rate {
    /// No transfer at all.
    pub const ZERO: Rate = Rate(0);
    /// The greatest rate that can be expressed.
    pub const MAX: Rate = Rate(u64::MAX);

    /// A rate of `bits_per_s` bits a second; saturates at 147 Tbit/s.
    pub const fn from_bits_per_s(bits_per_s: u64) -> Self {
        Rate(bits_per_s.saturating_mul(125_000))
    }

    /// A rate of `bytes_per_s` bytes a second; saturates at 18 TB/s.
    pub const fn from_bytes_per_s(bytes_per_s: u64) -> Self {
        Rate(bytes_per_s.saturating_mul(1_000_000))
    }

    /// A rate in microbytes a second.
    pub const fn from_microbytes_per_s(microbytes_per_s: u64) -> Self {
        Rate(microbytes_per_s)
    }

    /// The rate in microbytes a second.
    pub const fn microbytes_per_s(self) -> u64 {
        self.0
    }

    /// The rate in whole bits a second, rounded down.
    pub const fn bits_per_s(self) -> u64 {
        self.0 / 125_000
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bit/s", self.bits_per_s())
    }
}
