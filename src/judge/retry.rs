//! Retries of failed requests.

use std::time::{Duration, SystemTime};

use crate::store::Key;

/// A retry policy with exponential backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Maximum number of requests for one prompt, the first included.
    pub attempts_max: u32,
    /// Wait after the first failure. It doubles with each further one.
    pub wait_first: Duration,
    /// Maximum wait. If the endpoint asks for a longer one, the prompt fails.
    pub wait_max: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts_max: 6, wait_first: Duration::from_secs(1), wait_max: Duration::from_secs(120) }
    }
}

impl Retries {
    /// Returns the wait after `failures` failures of the request with `key`. `None` if it must not be retried.
    ///
    /// The wait doubles with each failure, with jitter: its second half is spread by the key, so that requests that
    /// failed together are not retried together. A longer wait that the endpoint asks for is respected.
    pub(super) fn wait(&self, failures: u32, asked_for: Option<Duration>, key: Key) -> Option<Duration> {
        if failures >= self.attempts_max {
            return None;
        }
        let doubled = self.wait_first.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        // Jitter: a factor in [0.5, 1), from the first byte of the key.
        let scattered = doubled.min(self.wait_max).mul_f64(0.5 + f64::from(key.0.0[0]) / 512.0);
        match asked_for {
            Some(asked_for) if asked_for > self.wait_max => None,
            Some(asked_for) => Some(asked_for.max(scattered)),
            None => Some(scattered),
        }
    }
}

/// Parses the wait of a `Retry-After` header: seconds, or a date relative to `now`.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    #[test]
    fn waits_double_and_end() {
        let retries = Retries { attempts_max: 5, wait_first: Duration::from_secs(2), wait_max: Duration::from_secs(9) };
        let wait = |failures, asked_for| retries.wait(failures, asked_for, Key(Digest([0; 32])));
        let waits: Vec<_> = (1..=5).map(|failures| wait(failures, None).map(|wait| wait.as_secs_f64())).collect();
        assert_eq!(waits, [Some(1.0), Some(2.0), Some(4.0), Some(4.5), None]);
        assert_eq!(wait(1, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(wait(1, Some(Duration::from_secs(10))), None, "longer than we wait");
        assert_eq!(wait(3, Some(Duration::ZERO)), Some(Duration::from_secs(4)), "never faster than on our own");
        assert!(wait(40, None).is_none());
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let read = |value| retry_after(value, now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read(" 0.5 "), Some(Duration::from_millis(500)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO), "a date that is past");
        for value in ["", "soon", "-1", "NaN", "inf", "1e300"] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
