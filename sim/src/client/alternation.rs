//! Alternation between two states with exponential holding times: online and offline, or up and down.

use crate::kernel::{Span, Time};
use crate::random::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// A state and the first instant at which it may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Whether the client is online, or the device up.
    pub is_up: bool,
    /// Time at which that may change; `None` if never.
    pub until: Option<Time>,
}

/// Parameters of an alternation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alternating {
    pub mean_up: Span,
    pub mean_down: Span,
    /// Purpose of the stream that it draws from.
    pub purpose: Purpose,
}

/// A period in one state, the memoized position of an alternation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sojourn {
    /// Number of the draw after the one that gave this period's length.
    draw: u64,
    is_up: bool,
    until: Time,
}

impl Alternating {
    /// Returns the state at `at`. Draw 0 decides the state at time zero (in proportion to the means, or up if
    /// `starts_in_proportion` is false); draw n gives the length of the n-th period. `memo` holds the period of the
    /// previous call, so that time does not have to be replayed from the start.
    pub fn status_at(
        &self,
        at: Time,
        stream: impl Fn(Purpose) -> Stream,
        starts_in_proportion: bool,
        memo: &mut Option<Sojourn>,
    ) -> Status {
        // A memo that still covers `at` needs no draw. Otherwise the stream continues at the draw after it, or at draw
        // 0.
        if memo.is_none_or(|sojourn| sojourn.until <= at) {
            let from = memo.map_or(0, |sojourn| sojourn.draw);
            let mut stream = stream(self.purpose).at(from);
            let mut sojourn = match *memo {
                Some(sojourn) => sojourn,
                None => {
                    // Draw 0 is consumed even if it decides nothing, so that lengths have the same numbers in either
                    // case.
                    let whole = self.mean_up.0.saturating_add(self.mean_down.0);
                    let starts_up = stream.below(whole) < self.mean_up.0;
                    self.next(&mut stream, starts_up || !starts_in_proportion, Time::ZERO)
                }
            };
            while sojourn.until <= at {
                sojourn = self.next(&mut stream, !sojourn.is_up, sojourn.until);
            }
            *memo = Some(Sojourn { draw: stream.position(), ..sojourn });
        }
        let sojourn = memo.expect("just set");
        Status { is_up: sojourn.is_up, until: Some(sojourn.until) }
    }

    /// Returns the period that begins at `from`. Its length is minus the mean times the logarithm of a uniform draw in
    /// (0, 1], rounded once.
    fn next(&self, stream: &mut Stream, is_up: bool, from: Time) -> Sojourn {
        let mean = if is_up { self.mean_up } else { self.mean_down };
        let length = libm::rint(-libm::log(1.0 - stream.unit()) * mean.0 as f64);
        let until = from.after(Span((length as u64).max(1)));
        Sojourn { draw: 0, is_up, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    #[test]
    fn the_share_of_time_up_is_the_ratio_of_the_means() {
        let law = Alternating { mean_up: Span(3_000), mean_down: Span(1_000), purpose: Purpose::Availability };
        let mut memo = None;
        let stream = |purpose| Stream::new(Seed(1), purpose, 0);
        let up = (0..400_000u64).filter(|i| law.status_at(Time(i * 100), stream, true, &mut memo).is_up).count();
        assert!((295_000..305_000).contains(&up), "{up}");
    }

    #[test]
    fn the_start_is_in_proportion_or_up() {
        let law = Alternating { mean_up: Span(1_000), mean_down: Span(1_000), purpose: Purpose::Fault };
        let ups = |in_proportion| {
            let up = |client: &u64| {
                let stream = |purpose| Stream::new(Seed(1), purpose, *client);
                law.status_at(Time::ZERO, stream, in_proportion, &mut None).is_up
            };
            (0..1_000).filter(up).count()
        };
        assert!((450..550).contains(&ups(true)));
        assert_eq!(ups(false), 1_000);
    }
}
