//! Availability of clients, as a pure function of time, seed and client.

use super::alternation::{Alternating, Sojourn, Status};
use crate::kernel::{Span, Time};
use crate::random::{Probability, Purpose, Stream};
use serde::{Deserialize, Serialize};

/// A class of availability.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    /// Always online.
    #[default]
    Always,
    /// Alternating exponential times online and offline. The state at the start is drawn in proportion to the means.
    Markov {
        /// Mean time online, above zero.
        mean_online: Span,
        /// Mean time offline, above zero.
        mean_offline: Span,
    },
    /// Online once per period, like phones that charge at night.
    Diurnal(Diurnal),
    /// Online in half-open intervals of a trace.
    Trace {
        /// Start (inclusive) and end (exclusive) of each interval, ascending and disjoint.
        online: Vec<(Time, Time)>,
        /// Period with which the trace repeats; `None` if it does not.
        period: Option<Span>,
    },
}

/// One online window per period, shifted and skipped at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diurnal {
    /// Length of a period, usually a day.
    pub period: Span,
    /// Offset of the client's local time ahead of simulated time: its time zone.
    pub ahead: Span,
    /// Time at which the window opens, in local time.
    pub opens: Span,
    /// Length of the window.
    pub open_for: Span,
    /// Upper bound of the uniform delay of the window, drawn for each period.
    pub shift_below: Span,
    /// Probability that the window opens, drawn for each period.
    pub shows_up: Probability,
}

impl Diurnal {
    /// Returns the window of local period `index` in local time [ns], if it opens. Uses draws 2n and 2n + 1 of the
    /// client's stream for period n.
    fn window(&self, index: u64, stream: &Stream) -> Option<(u64, u64)> {
        let mut stream = stream.clone().at(2 * index);
        let shows_up = stream.below(u64::from(Probability::SCALE)) < u64::from(self.shows_up.ppb());
        let shift = stream.below(self.shift_below.0.max(1));
        let opens = (index * self.period.0).saturating_add(self.opens.0 + shift);
        shows_up.then_some((opens, opens.saturating_add(self.open_for.0)))
    }

    /// Returns whether the window is open at `at`, and when that may change next.
    fn status(&self, at: Time, stream: &Stream) -> Status {
        let local = at.0.saturating_add(self.ahead.0);
        let index = local / self.period.0;
        let next_period = (index + 1).saturating_mul(self.period.0);
        let (is_online, until) = match self.window(index, stream) {
            Some((opens, _)) if local < opens => (false, opens),
            Some((_, closes)) if local < closes => (true, closes),
            _ => (false, next_period),
        };
        Status { is_up: is_online, until: Some(Time(until - self.ahead.0)) }
    }
}

impl Availability {
    /// Returns the state at `at`. `memo` holds the last state of a two-state chain; it only saves time and may be
    /// empty.
    pub(crate) fn status(&self, at: Time, stream: impl Fn(Purpose) -> Stream, memo: &mut Option<Sojourn>) -> Status {
        match self {
            Availability::Always => Status { is_up: true, until: None },
            Availability::Diurnal(diurnal) => diurnal.status(at, &stream(Purpose::Availability)),
            Availability::Trace { online, period } => trace_status(online, *period, at),
            Availability::Markov { mean_online, mean_offline } => {
                let chain =
                    Alternating { mean_up: *mean_online, mean_down: *mean_offline, purpose: Purpose::Availability };
                chain.status_at(at, stream, true, memo)
            }
        }
    }

    /// Returns whether the state is that of a chain, which is worth memoizing.
    pub(crate) fn is_chain(&self) -> bool {
        matches!(self, Availability::Markov { .. })
    }

    /// Returns what is allowed if this class never goes online or its windows overlap.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Availability::Always => None,
            Availability::Markov { mean_online, mean_offline } => {
                if *mean_online == Span::ZERO || *mean_offline == Span::ZERO {
                    return Some("mean times above zero, so that it opens and closes");
                }
                None
            }
            Availability::Diurnal(diurnal) => diurnal.fault(),
            Availability::Trace { online, period } => trace_fault(online, *period),
        }
    }
}

impl Diurnal {
    /// Returns what is allowed if the window never opens or exceeds its period.
    fn fault(&self) -> Option<&'static str> {
        let closes = [self.opens, self.open_for, self.shift_below].iter().map(|span| u128::from(span.0)).sum::<u128>();
        if self.period == Span::ZERO || closes > u128::from(self.period.0) {
            return Some("a window that closes within its period, latest shift included");
        }
        if self.open_for == Span::ZERO || self.shows_up == Probability::ZERO {
            return Some("a window that opens");
        }
        (self.ahead >= self.period).then_some("a time zone less than a period ahead")
    }
}

/// Returns the state of a trace at `at`.
fn trace_status(online: &[(Time, Time)], period: Option<Span>, at: Time) -> Status {
    let base = period.map_or(0, |period| at.0 - at.0 % period.0);
    let within = Time(at.0 - base);
    // The first interval that has not ended: it is current if it has begun, else the next one. After the last interval
    // of a period, the state may change when the period ends.
    let next = online.partition_point(|(_, until)| *until <= within);
    let (is_up, until) = match online.get(next) {
        Some((from, until)) if *from <= within => (true, Some(until.0)),
        Some((from, _)) => (false, Some(from.0)),
        None => (false, period.map(|period| period.0)),
    };
    Status { is_up, until: until.map(|until| Time(base.saturating_add(until))) }
}

/// Returns what is allowed if a trace is empty, unordered or longer than its period.
fn trace_fault(online: &[(Time, Time)], period: Option<Span>) -> Option<&'static str> {
    if online.is_empty() {
        return Some("at least one interval, so that it opens");
    }
    let apart = online.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    if !apart || online.iter().any(|(from, until)| from >= until) {
        return Some("intervals that ascend and do not overlap");
    }
    let last = online[online.len() - 1].1;
    period.is_some_and(|period| last.0 > period.0).then_some("intervals within the period")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    fn status(class: &Availability, at: u64) -> Status {
        class.status(Time(at), |purpose| Stream::new(Seed(3), purpose, 9), &mut None)
    }

    fn changes(class: &Availability, until: u64) -> Vec<(u64, bool)> {
        let (mut at, mut out) = (0, Vec::new());
        while at < until {
            let now = status(class, at);
            if out.last().is_none_or(|(_, up)| *up != now.is_up) {
                out.push((at, now.is_up));
            }
            let Some(next) = now.until else { break };
            at = next.0;
        }
        out
    }

    #[test]
    fn a_trace_is_followed_and_repeats() {
        let online = vec![(Time(2), Time(4)), (Time(6), Time(7))];
        let once = Availability::Trace { online: online.clone(), period: None };
        assert_eq!(changes(&once, 100), [(0, false), (2, true), (4, false), (6, true), (7, false)]);
        let again = Availability::Trace { online, period: Some(Span(10)) };
        assert_eq!(
            changes(&again, 16),
            [(0, false), (2, true), (4, false), (6, true), (7, false), (12, true), (14, false)]
        );
    }

    #[test]
    fn a_time_zone_moves_the_window() {
        let base = Diurnal {
            period: Span(24),
            ahead: Span(0),
            opens: Span(22),
            open_for: Span(2),
            shift_below: Span(0),
            shows_up: Probability::ONE,
        };
        assert_eq!(changes(&Availability::Diurnal(base), 40), [(0, false), (22, true), (24, false)]);
        let ahead = Availability::Diurnal(Diurnal { ahead: Span(8), ..base });
        assert_eq!(changes(&ahead, 40), [(0, false), (14, true), (16, false), (38, true)]);
    }

    #[test]
    fn availability_does_not_depend_on_who_asked_before() {
        let diurnal = Diurnal {
            period: Span(1_000),
            ahead: Span(100),
            opens: Span(200),
            open_for: Span(300),
            shift_below: Span(400),
            shows_up: Probability::from_f64(0.7).unwrap(),
        };
        let markov = Availability::Markov { mean_online: Span(500), mean_offline: Span(900) };
        for class in [Availability::Diurnal(diurnal), markov] {
            let mut memo = None;
            let mut both = 0;
            for at in (0..20_000).step_by(37) {
                let stream = |purpose| Stream::new(Seed(3), purpose, 9);
                let remembered = class.status(Time(at), stream, &mut memo);
                assert_eq!(remembered, status(&class, at));
                both |= 1 << u32::from(remembered.is_up);
            }
            assert_eq!(both, 3, "both states occur");
        }
    }

    #[test]
    fn what_never_opens_is_a_fault() {
        assert!(Availability::Trace { online: vec![], period: None }.fault().is_some());
        assert!(Availability::Markov { mean_online: Span(0), mean_offline: Span(1) }.fault().is_some());
        assert_eq!(Availability::Always.fault(), None);
    }
}
