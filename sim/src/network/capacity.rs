//! Rates, and link capacities as piecewise constant functions of time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kernel::{Span, Time};

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

/// A piecewise constant capacity, optionally periodic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Capacity from the start.
    pub initial: Rate,
    /// Times of changes and the values from then on, ascending.
    pub changes: Vec<(Time, Rate)>,
    /// Period after which the function repeats, beginning with `initial`; `None` if it does not.
    pub period: Option<Span>,
}

impl Capacity {
    /// Returns a capacity that never changes.
    pub const fn constant(rate: Rate) -> Self {
        Self { initial: rate, changes: Vec::new(), period: None }
    }

    /// Returns the capacity at `time`.
    pub fn at(&self, time: Time) -> Rate {
        let within = self.period.map_or(time.0, |period| time.0 % period.0);
        let passed = self.changes.partition_point(|(from, _)| from.0 <= within);
        if passed == 0 { self.initial } else { self.changes[passed - 1].1 }
    }

    /// Returns the first instant after `time` at which a (possibly equal) value begins.
    pub fn next_change(&self, time: Time) -> Option<Time> {
        let base = self.period.map_or(0, |period| time.0 - time.0 % period.0);
        let within = time.0 - base;
        let passed = self.changes.partition_point(|(from, _)| from.0 <= within);
        match (self.changes.get(passed), self.period) {
            (Some((from, _)), _) => Some(Time(base.saturating_add(from.0))),
            // After the last change of a period, the next one is the return to `initial`.
            (None, Some(period)) if !self.changes.is_empty() => Some(Time(base.saturating_add(period.0))),
            (None, _) => None,
        }
    }

    /// Returns the greatest capacity at any time.
    pub fn peak(&self) -> Rate {
        self.changes.iter().map(|(_, rate)| *rate).fold(self.initial, Rate::max)
    }

    /// Returns what is wrong with this function, if anything: changes that do not ascend, a period that ends before the
    /// last change, or a capacity that is zero forever.
    pub fn fault(&self) -> Option<&'static str> {
        if self.changes.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Some("changes must ascend in time");
        }
        match (self.period, self.changes.last()) {
            (Some(Span(0)), _) => Some("the period must be longer than zero"),
            (Some(period), Some((last, _))) if last.0 >= period.0 => Some("changes must lie within the period"),
            (Some(_), _) if self.peak() == Rate::ZERO => Some("the capacity must not be zero for good"),
            (None, Some((_, Rate::ZERO))) => Some("the capacity must not be zero for good"),
            (None, None) if self.initial == Rate::ZERO => Some("the capacity must not be zero for good"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily() -> Capacity {
        let rate = Rate::from_bytes_per_s;
        Capacity { initial: rate(1), changes: vec![(Time(10), rate(2)), (Time(20), rate(3))], period: Some(Span(30)) }
    }

    #[test]
    fn a_period_repeats() {
        let capacity = daily();
        let values: Vec<u64> =
            [0, 9, 10, 25, 30, 39, 40, 59].map(|t| capacity.at(Time(t)).microbytes_per_s() / 1_000_000).to_vec();
        assert_eq!(values, [1, 1, 2, 3, 1, 1, 2, 3]);
        let mut at = Time::ZERO;
        let changes: Vec<u64> = std::iter::from_fn(|| {
            at = capacity.next_change(at)?;
            Some(at.0)
        })
        .take(6)
        .collect();
        assert_eq!(changes, [10, 20, 30, 40, 50, 60]);
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(daily().fault(), None);
        assert!(Capacity::constant(Rate::ZERO).fault().is_some());
        let mut reversed = daily();
        reversed.changes.reverse();
        assert!(reversed.fault().is_some());
        let short = Capacity { period: Some(Span(20)), ..daily() };
        assert!(short.fault().is_some());
    }
}
