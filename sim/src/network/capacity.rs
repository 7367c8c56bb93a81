//! Link capacities as piecewise constant functions of time.

use super::Rate;
use crate::kernel::{Span, Time};
use serde::{Deserialize, Serialize};

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
