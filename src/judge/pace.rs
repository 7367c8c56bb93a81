//! How fast requests may begin, and what waits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest sleep without a look whether to stop.
const NAP: Duration = Duration::from_millis(100);

/// Time as the judge sees it; tests have another.
pub(super) trait Clock: Sync + Send {
    fn now(&self) -> Instant;

    /// Waits, or less if `stop` is set meanwhile.
    fn wait(&self, duration: Duration, stop: &AtomicBool);
}

/// The host's.
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
            std::thread::sleep(left.min(NAP));
        }
    }
}

/// Beginnings of requests, spread evenly over time.
#[derive(Debug)]
pub(super) struct Pace {
    /// Between two beginnings.
    interval: Duration,
    /// The earliest that the next request may begin.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most so many beginnings in a minute; none for no limit.
    pub fn new(requests_per_minute: Option<f64>) -> Self {
        let interval = requests_per_minute
            .map_or(Duration::ZERO, |rate| Duration::try_from_secs_f64(60.0 / rate).unwrap_or(Duration::MAX));
        Self { interval, next: Mutex::new(None) }
    }

    /// Takes the next beginning, and says how long it is until then.
    pub fn take(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().expect("nobody panics while pacing");
        let begin = next.map_or(now, |next| next.max(now));
        *next = begin.checked_add(self.interval);
        begin - now
    }

    /// Lets nobody begin before `instant`: the endpoint asked one of us to wait, and means us all.
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
