//! Staleness discounts: reduced weights of updates that started from an older model version.

use serde::{Deserialize, Serialize};

/// A staleness discount: FedAsync, Xie et al. (2019), section 5.2. FedBuff uses the polynomial with exponent 1/2.
///
/// It does not affect the schedule; the aggregation multiplies weights by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Discount {
    /// 1 for every staleness.
    #[default]
    Constant,
    /// `(1 + s)^-exponent`.
    Polynomial {
        /// Exponent, above zero.
        exponent: f64,
    },
    /// 1 up to a staleness of `from`, then `1 / (slope (s - from) + 1)`.
    Hinge {
        /// Slope, above zero.
        slope: f64,
        /// [version] -- Staleness up to which updates are not discounted.
        from: u32,
    },
}

impl Discount {
    /// Returns the factor for an update of this staleness [version], in (0, 1]. The power comes from `libm`, so it is
    /// the same on every platform.
    pub fn factor(&self, staleness: u32) -> f64 {
        match self {
            Discount::Constant => 1.0,
            Discount::Polynomial { exponent } => libm::pow(1.0 + f64::from(staleness), -exponent),
            Discount::Hinge { slope, from } => 1.0 / (slope * f64::from(staleness.saturating_sub(*from)) + 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_follow_the_papers() {
        assert_eq!(Discount::Constant.factor(9), 1.0);
        assert_eq!(Discount::Polynomial { exponent: 0.5 }.factor(3), 0.5);
        let hinge = Discount::Hinge { slope: 10.0, from: 4 };
        assert_eq!([hinge.factor(4), hinge.factor(5)], [1.0, 1.0 / 11.0]);
    }
}
