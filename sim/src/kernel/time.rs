//! Instants and durations of virtual time, in integer nanoseconds.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Nanoseconds in a second.
const NS_PER_S: u64 = 1_000_000_000;

/// An instant of virtual time [ns since the start of the run].
///
/// # Examples
///
/// ```
/// use fedreplay_sim::{Span, Time};
///
/// let opened = Time::from_secs(90);
/// let closed = opened.after(Span::from_millis(1_500));
/// assert_eq!(closed.since(opened), Span(1_500_000_000));
/// assert_eq!(closed.to_string(), "1m31.5s");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A duration of virtual time [ns].
///
/// # Examples
///
/// ```
/// use fedreplay_sim::Span;
///
/// assert_eq!(Span::from_secs(7_200).to_string(), "2h0m0s");
/// // Seconds become whole nanoseconds, rounded once.
/// assert_eq!(Span::from_secs_f64(0.1), Some(Span(100_000_000)));
/// assert_eq!(Span::from_secs_f64(-1.0), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Time {
    /// Start of a run.
    pub const ZERO: Time = Time(0);
    /// Value to which overflowing additions saturate. The engine refuses to schedule events at it.
    pub const NEVER: Time = Time(u64::MAX);

    /// Returns the instant `seconds` after the start.
    pub const fn from_secs(seconds: u64) -> Self {
        Time(seconds * NS_PER_S)
    }

    /// Returns the instant `span` later, or [`Time::NEVER`] beyond the end of representable time (584 years).
    pub const fn after(self, span: Span) -> Self {
        Time(self.0.saturating_add(span.0))
    }

    /// Returns the duration since `earlier`.
    ///
    /// # Panics
    /// If `earlier` is later than this instant.
    pub fn since(self, earlier: Time) -> Span {
        Span(self.0.checked_sub(earlier.0).expect("virtual time never goes back"))
    }
}

impl Span {
    /// Duration zero.
    pub const ZERO: Span = Span(0);

    /// Returns a duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Span(seconds * NS_PER_S)
    }

    /// Returns a duration of whole milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Span(milliseconds * 1_000_000)
    }

    /// Returns `seconds` rounded to the nearest nanosecond; `None` if negative, not finite or beyond 584 years.
    pub fn from_secs_f64(seconds: f64) -> Option<Self> {
        let ns = libm::rint(seconds * NS_PER_S as f64);
        (ns >= 0.0 && ns < u64::MAX as f64).then_some(Span(ns as u64))
    }

    /// Returns this duration in seconds, for display and reports only; it must not flow back into the simulation.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NS_PER_S as f64
    }

    /// Returns the fraction `numerator / denominator` of this duration, rounded up and saturating.
    pub(crate) fn portion(self, numerator: u64, denominator: u64) -> Self {
        let ns = (u128::from(self.0) * u128::from(numerator)).div_ceil(u128::from(denominator));
        Span(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Returns `work / rate_per_s` seconds, rounded up to the nanosecond and saturating.
    ///
    /// # Panics
    /// If the rate is zero.
    pub fn of_work(work: u64, rate_per_s: u64) -> Self {
        assert!(rate_per_s > 0, "work at rate 0 never ends");
        let ns = (u128::from(work) * u128::from(NS_PER_S)).div_ceil(u128::from(rate_per_s));
        Span(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Span {
    /// Writes days, hours, minutes and seconds without leading zero parts: `1m30s`, `2h0m0.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / NS_PER_S;
        let ns = self.0 % NS_PER_S;
        let days = seconds / 86_400;
        let hours = seconds / 3_600 % 24;
        let minutes = seconds / 60 % 60;
        if days > 0 {
            write!(f, "{days}d")?;
        }
        if seconds >= 3_600 {
            write!(f, "{hours}h")?;
        }
        if seconds >= 60 {
            write!(f, "{minutes}m")?;
        }
        let fraction = format!("{ns:09}");
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{}s", seconds % 60),
            digits => write!(f, "{}.{digits}s", seconds % 60),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_short_and_exact() {
        let check = |ns: u64, text: &str| assert_eq!(Span(ns).to_string(), text);
        check(0, "0s");
        check(90_000_000_000, "1m30s");
        check(7_200_500_000_000, "2h0m0.5s");
        check(1, "0.000000001s");
        check(86_400_000_000_000, "1d0h0m0s");
    }

    #[test]
    fn work_rounds_up_and_saturates() {
        assert_eq!(Span::of_work(1, 3), Span(333_333_334));
        assert_eq!(Span::of_work(u64::MAX, 1), Span(u64::MAX));
        assert_eq!(Span(10).portion(1, 3), Span(4));
    }

    #[test]
    fn seconds_round_once() {
        assert_eq!(Span::from_secs_f64(0.1), Some(Span(100_000_000)));
        assert_eq!(Span::from_secs_f64(-1.0), None);
        assert_eq!(Span::from_secs_f64(f64::NAN), None);
        assert_eq!(Span::from_secs_f64(1e12), None);
    }
}
