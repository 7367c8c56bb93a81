//! Progress of questions on stderr: a bar on a terminal with questions a second and what is left.

use std::cell::Cell;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::evaluation::Witness;

/// How often the bar is drawn while nothing is finished.
const TICK: Duration = Duration::from_millis(200);

/// Watches answers for the person at the terminal.
pub struct Asking {
    bar: ProgressBar,
    found: Cell<u64>,
}

impl Asking {
    /// A watcher that draws a bar only where stderr is a terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} questions, {per_sec}, {msg}{eta} left");
        bar.set_style(style.expect("the template is well-formed"));
        bar.enable_steady_tick(TICK);
        Self { bar, found: Cell::new(0) }
    }

    /// A watcher that says nothing.
    pub fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), found: Cell::new(0) }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Witness for Asking {
    fn expect(&self, answers: usize) {
        self.bar.inc_length(answers as u64);
    }

    fn answered(&self, is_new: bool) {
        if is_new {
            self.bar.inc(1);
            return;
        }
        // What was found says nothing of the speed.
        self.found.set(self.found.get() + 1);
        self.bar.set_length(self.bar.length().unwrap_or(0).saturating_sub(1));
        self.bar.set_message(format!("{} from the store, ", self.found.get()));
    }
}
