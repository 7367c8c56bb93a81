//! Transfer rates, in a unit so fine that one bit per second is an integer.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Transfer rate [10^-6 byte/s].
///
/// The unit is so small because bit rates divided by eight must be integers, and because the share of one of 100,000
/// flows must not lose digits. The greatest rate is 18 TB/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u64);

impl Rate {
    /// Rate zero.
    pub const ZERO: Rate = Rate(0);
    /// Greatest representable rate.
    pub const MAX: Rate = Rate(u64::MAX);

    /// Converts from [bit/s]; saturates at 147 Tbit/s.
    pub const fn from_bits_per_s(bits_per_s: u64) -> Self {
        Rate(bits_per_s.saturating_mul(125_000))
    }

    /// Converts from [byte/s]; saturates at 18 TB/s.
    pub const fn from_bytes_per_s(bytes_per_s: u64) -> Self {
        Rate(bytes_per_s.saturating_mul(1_000_000))
    }

    /// Converts from [10^-6 byte/s].
    pub const fn from_microbytes_per_s(microbytes_per_s: u64) -> Self {
        Rate(microbytes_per_s)
    }

    /// Returns the rate in [10^-6 byte/s].
    pub const fn microbytes_per_s(self) -> u64 {
        self.0
    }

    /// Returns the rate in [bit/s], rounded down.
    pub const fn bits_per_s(self) -> u64 {
        self.0 / 125_000
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bit/s", self.bits_per_s())
    }
}
