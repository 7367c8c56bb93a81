//! Progress on stderr: a bar on a terminal, plain lines everywhere else. What is done, how far, how fast, what is left.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::logs_json;
use super::output::note;
use super::round_line::RoundLine;
use super::units;
use crate::run::{Observer, PlanWatch, RoundReport};

/// How often the bar is drawn while nothing is finished.
const TICK: Duration = Duration::from_millis(200);

/// How often a plain line says how fast it goes.
pub const PLAIN: Duration = Duration::from_secs(10);

/// Where progress stands in a log, so that RUST_LOG can choose it.
const TARGET: &str = "fedreplay::progress";

/// Watches a command for the person at the terminal.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// When the last plain line on speed was written.
    said: Instant,
    rounds: u64,
    rounds_done: u64,
    tasks_left: Option<u64>,
    tasks_done: u64,
    tokens_done: u64,
}

impl Progress {
    /// A watcher of work that begins with `what`. It draws a bar only where stderr is a terminal.
    pub fn new(what: &str) -> Self {
        let target = if logs_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {msg}, {elapsed} elapsed"));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(TICK);
        tracing::info!(target: TARGET, "{what}");
        let now = Instant::now();
        let (rounds, rounds_done, tasks_left, tasks_done, tokens_done) = (0, 0, None, 0, 0);
        Self { bar, began: now, said: now, rounds, rounds_done, tasks_left, tasks_done, tokens_done }
    }

    /// Does work without steps that could be counted, and says so.
    pub fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
        let _shown = Self::new(what);
        work()
    }

    /// What is left and how fast it goes.
    fn speed(&self) -> String {
        let left = self.tasks_left.map(|tasks| format!("{tasks} tasks to train, ")).unwrap_or_default();
        let seconds = self.began.elapsed().as_secs_f64();
        let (tasks, tokens) = (self.tasks_done as f64 / seconds, self.tokens_done as f64 / seconds);
        format!("{left}{} tasks/s, {} tokens/s", units::rate(tasks), units::rate(tokens))
    }

    /// How far the run is, how fast it goes, and what is left.
    fn standing(&self) -> String {
        let (done, all) = (self.rounds_done, self.rounds);
        format!("progress: {done}/{all} rounds, {}, about {:.0} s left", self.speed(), self.left())
    }

    /// Writes a line, above the bar where there is one.
    fn line(&self, line: &str) {
        match self.bar.is_hidden() {
            true => plain_line(line),
            false => self.bar.println(line),
        }
    }

    /// Where there is no bar, says now and then how fast it goes.
    fn plain(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.bar.is_hidden() && self.said.elapsed() >= PLAIN {
            self.said = Instant::now();
            self.line(&line(self));
        }
    }

    /// [s] Until all rounds are done, if they go on as they went.
    fn left(&self) -> f64 {
        let left = self.rounds.saturating_sub(self.rounds_done);
        self.began.elapsed().as_secs_f64() / self.rounds_done.max(1) as f64 * left as f64
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn scheduled(&mut self, rounds: usize, tasks: Option<usize>) {
        self.began = Instant::now();
        (self.rounds, self.rounds_done, self.tasks_done, self.tokens_done) = (rounds as u64, 0, 0, 0);
        self.tasks_left = tasks.map(|tasks| tasks as u64);
        self.bar.reset();
        self.bar.set_style(style("{bar:30} {pos}/{len} rounds, {msg}, {elapsed} elapsed, {eta} left"));
        self.bar.set_length(rounds as u64);
        self.bar.set_message("training");
        tracing::info!(target: TARGET, rounds, tasks, "the schedule is known; training");
    }

    fn round(&mut self, report: &RoundReport) {
        let counted = u64::from(report.row.counted);
        self.rounds_done += 1;
        self.tasks_done += counted;
        self.tokens_done += report.tokens;
        self.tasks_left = self.tasks_left.map(|left| left.saturating_sub(counted));
        self.bar.set_message(self.speed());
        self.bar.inc(1);
        self.line(&RoundLine::from(report).to_string());
        self.plain(Self::standing);
    }
}

impl PlanWatch for Progress {
    fn progress(&mut self, rounds: u32, of: u32, tasks: u64, events: u64) {
        let seconds = self.began.elapsed().as_secs_f64();
        let speed = format!(
            "{} events/s, {} tasks/s",
            units::rate(events as f64 / seconds),
            units::rate(tasks as f64 / seconds)
        );
        (self.rounds, self.rounds_done) = (u64::from(of), u64::from(rounds));
        self.bar.set_message(format!("{rounds}/{of} rounds of virtual time, {speed}, about {:.0} s left", self.left()));
        self.plain(|progress| {
            format!("progress: {rounds}/{of} rounds of virtual time, {speed}, about {:.0} s left", progress.left())
        });
    }
}

/// Writes a line where there is no bar: plain, or an object of a JSON log.
pub fn plain_line(line: &str) {
    match logs_json() {
        true => tracing::info!(target: TARGET, "{line}"),
        false => note!("{line}"),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_far_how_fast_and_what_is_left() {
        let mut progress = Progress::new("training");
        progress.scheduled(10, Some(40));
        progress.began = Instant::now().checked_sub(Duration::from_secs(20)).expect("the machine has run for so long");
        (progress.rounds_done, progress.tasks_done, progress.tokens_done) = (4, 16, 64_000);
        progress.tasks_left = Some(24);
        let line = progress.standing();
        let expected = "progress: 4/10 rounds, 24 tasks to train, 0.8 tasks/s, 3.2 k tokens/s, about 30 s left";
        assert_eq!(line, expected);
    }
}
