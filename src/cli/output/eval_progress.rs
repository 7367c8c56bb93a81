//! Progress of benchmark questions and of judgments on stderr, with rate and remaining time: a bar on a terminal, plain
//! lines elsewhere.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::logs_json;
use super::progress::plain_line;
use super::progress_line::PLAIN;
use fedreplay::generation::EvalProgress;
use fedreplay::report::units;

/// Interval at which the bar is redrawn while nothing finishes.
const TICK: Duration = Duration::from_millis(200);

/// Display of the progress of an evaluation.
pub struct EvalProgressBar {
    bar: ProgressBar,
    /// Answers that were read from the store.
    found: AtomicU64,
    began: Instant,
    /// Time of the last plain line; `None` if the display is silent.
    said: Mutex<Option<Instant>>,
}

impl EvalProgressBar {
    /// Creates a display that draws a bar only if stderr is a terminal.
    pub fn new() -> Self {
        let target = if logs_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} questions, {per_sec}, {msg}{eta} left");
        bar.set_style(style.expect("the template is well-formed"));
        bar.enable_steady_tick(TICK);
        let now = Instant::now();
        Self { bar, found: AtomicU64::new(0), began: now, said: Mutex::new(Some(now)) }
    }

    /// Creates a display that shows nothing.
    pub fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), found: AtomicU64::new(0), began: Instant::now(), said: Mutex::new(None) }
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes a line with progress and rate if there is no bar and a line is due.
    fn plain(&self) {
        // The lock is held until the line is written, so that workers that finish together write one line.
        let mut said = self.said.lock().expect("nobody panics while counting");
        let is_due = said.is_some_and(|said| said.elapsed() >= PLAIN);
        if !(is_due && self.bar.is_hidden()) {
            return;
        }
        *said = Some(Instant::now());
        let done = self.bar.position();
        let all = self.bar.length().unwrap_or(0);
        let per_second = done as f64 / self.began.elapsed().as_secs_f64();
        let left = all.saturating_sub(done) as f64 / per_second;
        let speed = units::rate(per_second);
        plain_line(&format!("progress: {done}/{all} questions, {speed} questions/s, about {left:.0} s left"));
    }
}

impl EvalProgress for EvalProgressBar {
    fn expect(&self, answers: usize) {
        self.bar.inc_length(answers as u64);
    }

    fn answered(&self, is_new: bool) {
        if is_new {
            self.bar.inc(1);
            return self.plain();
        }
        // Stored answers take no time, so counting them would overstate the speed.
        let found = self.found.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.set_length(self.bar.length().unwrap_or(0).saturating_sub(1));
        self.bar.set_message(format!("{found} from the store, "));
    }
}
