//! Progress on stderr: a bar on a terminal, and one line a round everywhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::note;
use super::round_line::RoundLine;
use crate::run::{Observer, RoundReport};

/// How often the bar is drawn while nothing is finished.
const TICK: Duration = Duration::from_millis(200);

/// Watches a run for the person at the terminal.
pub struct Progress {
    bar: ProgressBar,
    tasks_left: Option<u64>,
}

impl Progress {
    /// A watcher that draws a bar only where stderr is a terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, tasks_left: None }
    }

    fn to_train(&self) -> String {
        self.tasks_left.map_or_else(|| "training".to_owned(), |tasks| format!("{tasks} tasks to train"))
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn scheduled(&mut self, rounds: usize, tasks: Option<usize>) {
        self.tasks_left = tasks.map(|tasks| tasks as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rounds, {msg}, {elapsed} elapsed, {eta} left");
        self.bar.set_style(style.expect("the template is well-formed"));
        self.bar.set_length(rounds as u64);
        self.bar.set_message(self.to_train());
        self.bar.enable_steady_tick(TICK);
    }

    fn round(&mut self, report: &RoundReport) {
        let line = RoundLine::from(report);
        self.tasks_left = self.tasks_left.map(|left| left.saturating_sub(u64::from(report.row.counted)));
        self.bar.set_message(self.to_train());
        self.bar.inc(1);
        if self.bar.is_hidden() {
            note!("{line}");
        } else {
            self.bar.println(line.to_string())
        }
    }
}
