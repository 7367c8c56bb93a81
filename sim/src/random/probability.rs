//! Probabilities as integers.

use serde::{Deserialize, Serialize};

/// A probability [10^-9].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Probability(u32);

impl Probability {
    /// Probability 0.
    pub const ZERO: Probability = Probability(0);
    /// Probability 1.
    pub const ONE: Probability = Probability(Self::SCALE);
    /// Number of parts in probability 1.
    pub const SCALE: u32 = 1_000_000_000;

    /// Returns `parts` in 10^9; `None` if above 1.
    pub const fn from_ppb(parts: u32) -> Option<Self> {
        if parts <= Self::SCALE { Some(Probability(parts)) } else { None }
    }

    /// Returns `value` rounded to the nearest part in 10^9; `None` outside 0..=1.
    pub fn from_f64(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then(|| Probability(libm::rint(value * f64::from(Self::SCALE)) as u32))
    }

    /// Returns the parts in 10^9.
    pub const fn ppb(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_probabilities_are_accepted() {
        assert_eq!(Probability::from_f64(0.1).map(Probability::ppb), Some(100_000_000));
        assert_eq!(Probability::from_f64(1.0), Some(Probability::ONE));
        for bad in [-0.1, 1.1, f64::NAN] {
            assert_eq!(Probability::from_f64(bad), None);
        }
        assert_eq!(Probability::from_ppb(1_000_000_001), None);
    }
}
