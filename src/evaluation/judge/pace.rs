//! Rate limiting of requests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest sleep between two checks of the stop flag.
const NAP: Duration = Duration::from_millis(100);

/// A clock that can be replaced in tests.
pub(super) trait Clock: Sync + Send {
    fn now(&self) -> Instant;

    /// Waits for `duration`, or until `stop` is set.
    fn wait(&self, duration: Duration, stop: &AtomicBool);
}

/// The clock of the host.
pub(super) struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&self, duration: Duration, stop: &AtomicBool) {
        let start = Instant::now();
        while let Some(left) = duration.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            // Short sleeps, so that an interruption takes effect soon.
            std::thread::sleep(left.min(NAP));
        }
    }
}

/// A rate limiter that spreads the starts of requests evenly over time.
#[derive(Debug)]
pub(super) struct Pace {
    /// Time between two starts.
    interval: Duration,
    /// Earliest start of the next request.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// Creates a rate limiter. `None` sets no limit.
    pub fn new(requests_per_minute: Option<f64>) -> Self {
        let interval = match requests_per_minute {
            Some(rate) => Duration::try_from_secs_f64(60.0 / rate).unwrap_or(Duration::MAX),
            None => Duration::ZERO,
        };
        Self { interval, next: Mutex::new(None) }
    }

    /// Reserves the next start, and returns the time until then.
    pub fn take(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().expect("nobody panics while pacing");
        // Idle time is not made up for: the next start is never in the past.
        let begin = next.map_or(now, |next| next.max(now));
        *next = begin.checked_add(self.interval);
        begin - now
    }

    /// Lets no request start before `instant`. If the endpoint asks one request to wait, all have to.
    pub fn defer(&self, instant: Instant) {
        let mut next = self.next.lock().expect("nobody panics while pacing");
        *next = Some(next.map_or(instant, |next| next.max(instant)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_spread_and_an_idle_time_is_not_made_up_for() {
        let second = Duration::from_secs(1);
        let (pace, now) = (Pace::new(Some(30.0)), Instant::now());
        assert_eq!([pace.take(now), pace.take(now), pace.take(now)], [0, 2, 4].map(Duration::from_secs));
        assert_eq!(pace.take(now + second), 5 * second);
        let later = now + 60 * second;
        assert_eq!([pace.take(later), pace.take(later)], [0, 2].map(Duration::from_secs));
    }

    #[test]
    fn all_wait_when_one_is_asked_to() {
        let (pace, now) = (Pace::new(None), Instant::now());
        assert_eq!([pace.take(now), pace.take(now)], [Duration::ZERO; 2]);
        pace.defer(now + Duration::from_secs(9));
        assert_eq!([pace.take(now), pace.take(now)], [Duration::from_secs(9); 2]);
    }
}
