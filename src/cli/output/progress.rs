//! Progress on stderr: a bar on a terminal, an object per second in a JSON log, and a plain line every ten seconds everywhere else.
//!
//! A thread reads the counters of the work at every tick, so lines also appear while nothing is finished.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress_line::{Activity, LOGGED, PLAIN, RecentPace, RoundsDone, TICK, WorkProgress, is_due};
use super::round_line::RoundLine;
use super::{logs_json, note, printable};
use fedreplay::calibration::CalibrationWatch;
use fedreplay::graph::{WorkAmount, WorkCounters, WorkUnderWay};
use fedreplay::report::units;
use fedreplay::run::{Observer, PlanWatch, RoundReport};

/// Log target of progress, by which RUST_LOG can select it.
const TARGET: &str = "fedreplay::progress";

/// Number of steps of the bar.
const BAR_STEPS: f64 = 1000.0;

/// Display of a command's progress, which ends when it is dropped.
pub struct ProgressDisplay {
    shown: Arc<Shown>,
    ticker: Option<JoinHandle<()>>,
}

/// State that the command and the ticker thread share.
struct Shown {
    bar: ProgressBar,
    began: Instant,
    state: Mutex<State>,
    ended: Condvar,
}

/// The state of the display. Times count from its creation.
struct State {
    is_ended: bool,
    /// Description of the present work, shown while nothing can be counted.
    what: String,
    /// Time at which the present work began.
    since: Duration,
    /// Time of the last plain line.
    said: Duration,
    work: Option<ShownWork>,
    plan: Option<ShownPlan>,
    /// Share of the present work that is done, from 0 to 1, where nothing else is counted.
    share: Option<f64>,
}

/// Counted work.
struct ShownWork {
    counters: Arc<WorkCounters>,
    pace: RecentPace,
    rounds: Option<RoundsDone>,
}

/// Progress of a plan.
struct ShownPlan {
    rounds: u64,
    of: u64,
    tasks: u64,
    events: u64,
}

impl ProgressDisplay {
    /// Creates a display for work that begins with `what`. A bar is drawn only if stderr is a terminal.
    pub fn new(what: &str) -> Self {
        let target = if logs_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.enable_steady_tick(TICK);
        let state = Mutex::new(State::new(what, Duration::ZERO));
        let shown = Arc::new(Shown { bar, began: Instant::now(), state, ended: Condvar::new() });
        shown.begin(what);
        // The ticker shares the state; dropping the display ends and joins it.
        let watched = shown.clone();
        let ticker = Some(std::thread::spawn(move || watched.tick_until_ended()));
        Self { shown, ticker }
    }

    /// Switches to other work, which begins with `what`.
    pub fn begin(&mut self, what: &str) {
        // The time of the last plain line survives, so that new work does not bring the next line forward.
        let mut state = self.shown.lock();
        *state = State { said: state.said, ..State::new(what, self.shown.began.elapsed()) };
        drop(state);
        self.shown.begin(what);
    }

    /// Performs work that has no countable steps, and shows meanwhile what it is.
    pub fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
        let _shown = Self::new(what);
        work()
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.shown.lock().is_ended = true;
        self.shown.ended.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // If the ticker panicked, its message is on stderr; the command itself continues.
            let _ = ticker.join();
        }
        self.shown.bar.finish_and_clear();
    }
}

impl Shown {
    /// Locks the state. A panic of the other thread must not stop the command, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Announces work that cannot be counted yet.
    fn begin(&self, what: &str) {
        self.bar.reset();
        self.bar.set_style(style("{spinner} {msg}, {elapsed} elapsed"));
        self.bar.set_message(what.to_owned());
        tracing::info!(target: TARGET, "{what}");
    }

    /// Shows a bar for work that can be counted from now on.
    fn show_bar(&self) {
        self.bar.reset();
        self.bar.set_style(style("{bar:30} {elapsed} {wide_msg}"));
        self.bar.set_length(BAR_STEPS as u64);
    }

    /// Shows the progress at every tick until the display is dropped.
    fn tick_until_ended(&self) {
        let mut state = self.lock();
        while !state.is_ended {
            let now = self.began.elapsed();
            state.note_pace(now);
            if !self.bar.is_hidden() {
                self.draw(&state, now);
            } else if logs_json() && is_due(state.said, now, LOGGED) {
                state.said = now;
                let share = state.progress(now).map(|progress| progress.share_done());
                tracing::info!(target: TARGET, share, "progress: {}", state.line(now));
            } else if !logs_json() && is_due(state.said, now, PLAIN) {
                state.said = now;
                plain_line(&format!("progress: {}", state.line(now)));
            }
            // Waiting releases the lock, so the command can update the state between two ticks.
            state = match self.ended.wait_timeout(state, TICK) {
                Ok((state, _)) => state,
                Err(_) => return,
            };
        }
    }

    /// Updates the bar.
    fn draw(&self, state: &State, now: Duration) {
        if let Some(progress) = state.progress(now) {
            self.bar.set_position((progress.share_done() * BAR_STEPS) as u64);
            self.bar.set_message(progress.line());
        } else if state.plan.is_some() || state.share.is_some() {
            self.bar.set_position((state.share.unwrap_or(0.0) * BAR_STEPS) as u64);
            self.bar.set_message(state.line(now));
        }
    }

    /// Writes a line, above the bar if there is one.
    fn write(&self, line: &str) {
        match self.bar.is_hidden() {
            true => plain_line(line),
            false => self.bar.println(printable(format_args!("{line}"))),
        }
    }
}

impl State {
    fn new(what: &str, since: Duration) -> Self {
        Self {
            is_ended: false,
            what: what.to_owned(),
            since,
            said: Duration::ZERO,
            work: None,
            plan: None,
            share: None,
        }
    }

    /// Formats the progress at the time `now`.
    fn line(&self, now: Duration) -> String {
        if let Some(progress) = self.progress(now) {
            return progress.line();
        }
        let seconds = now.saturating_sub(self.since).as_secs_f64();
        match (&self.plan, self.share) {
            (Some(plan), _) => plan.line(seconds),
            (None, Some(share)) if share > 0.0 => {
                let left = seconds / share * (1.0 - share);
                format!("{}, {:.0} % done, about {left:.0} s left", self.what, 100.0 * share)
            }
            _ => format!("{}, for {seconds:.0} s", self.what),
        }
    }

    /// Starts to show counted work.
    fn count(&mut self, counters: Arc<WorkCounters>, now: Duration) {
        self.since = now;
        self.work = Some(ShownWork { counters, pace: RecentPace::default(), rounds: None });
    }

    /// Sets the number of rounds to expect.
    fn expect_rounds(&mut self, all: u64, all_is_known: bool) {
        if let Some(work) = &mut self.work {
            work.rounds = Some(RoundsDone { done: 0, all, all_is_known, known_before: WorkAmount::default() });
        }
    }

    /// Counts a finished round; `of` is the least number of rounds that the run will have.
    fn end_round(&mut self, of: u64) {
        if let Some(ShownWork { rounds: Some(rounds), counters, .. }) = &mut self.work {
            rounds.done += 1;
            rounds.all = rounds.all.max(of);
            rounds.known_before = counters.counts().wanted;
        }
    }

    /// Returns the progress of counted work at the time `now`. `None` if there is none yet.
    fn progress(&self, now: Duration) -> Option<WorkProgress> {
        let work = self.work.as_ref()?;
        let counts = work.counters.counts();
        if counts.wanted == WorkAmount::default() {
            return None;
        }
        let mut under_way = Vec::new();
        for WorkUnderWay { kind, trainings, since } in work.counters.under_way() {
            under_way.push(Activity { kind, trainings, seconds: since.elapsed().as_secs() });
        }
        Some(WorkProgress {
            rounds: work.rounds,
            counts,
            pace: work.pace.clone(),
            elapsed: now.saturating_sub(self.since).as_secs_f64(),
            under_way,
        })
    }

    /// Records the finished work, from which rates are computed.
    fn note_pace(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.since).as_secs_f64();
        if let Some(work) = &mut self.work {
            work.pace.note(seconds, &work.counters.counts().done);
        }
    }
}

impl ShownPlan {
    /// Formats the progress of a plan that began `seconds` ago.
    fn line(&self, seconds: f64) -> String {
        let events = units::rate(self.events as f64 / seconds);
        let tasks = units::rate(self.tasks as f64 / seconds);
        let left = seconds / self.rounds.max(1) as f64 * self.of.saturating_sub(self.rounds) as f64;
        let Self { rounds, of, .. } = self;
        format!("{rounds}/{of} rounds of virtual time, {events} events/s, {tasks} tasks/s, about {left:.0} s left")
    }
}

impl Observer for ProgressDisplay {
    fn working(&mut self, counters: Arc<WorkCounters>) {
        self.shown.lock().count(counters, self.shown.began.elapsed());
        self.shown.show_bar();
    }

    fn scheduled(&mut self, rounds: usize, tasks: Option<usize>) {
        self.shown.lock().expect_rounds(rounds as u64, tasks.is_some());
        tracing::info!(target: TARGET, rounds, tasks, "the schedule is known; training");
    }

    fn round(&mut self, report: &RoundReport) {
        self.shown.lock().end_round(report.rounds.into());
        self.shown.write(&RoundLine::from(report).to_string());
    }
}

impl PlanWatch for ProgressDisplay {
    fn progress(&mut self, rounds: u32, of: u32, tasks: u64, events: u64) {
        let plan = ShownPlan { rounds: rounds.into(), of: of.into(), tasks, events };
        self.shown.lock().plan = Some(plan);
    }

    fn repeated(&mut self, done: u32, of: u32) {
        self.shown.lock().what = format!("{done} of {of} repeats of the schedule simulated");
    }
}

impl CalibrationWatch for ProgressDisplay {
    fn begin(&mut self, what: &str) {
        ProgressDisplay::begin(self, what);
        self.shown.show_bar();
    }

    fn done(&mut self, share: f64) {
        self.shown.lock().share = Some(share);
    }
}

/// Writes a line when there is no bar, as plain text or as an object of the JSON log.
pub fn plain_line(line: &str) {
    match logs_json() {
        true => tracing::info!(target: TARGET, "{line}"),
        false => note!("{line}"),
    }
}

/// Parses a template of a bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_done_where_nothing_can_be_counted() {
        let mut state = State::new("hashing files", Duration::from_secs(2));
        assert_eq!(state.line(Duration::from_secs(32)), "hashing files, for 30 s");
        state.plan = Some(ShownPlan { rounds: 25, of: 100, tasks: 600, events: 90_000 });
        let expected = "25/100 rounds of virtual time, 3.0 k events/s, 20 tasks/s, about 90 s left";
        assert_eq!(state.line(Duration::from_secs(32)), expected);
    }

    #[test]
    fn a_line_says_what_share_of_a_measurement_is_done() {
        let mut state = State::new("measuring", Duration::from_secs(2));
        state.share = Some(0.25);
        assert_eq!(state.line(Duration::from_secs(12)), "measuring, 25 % done, about 30 s left");
    }

    #[test]
    fn counted_work_is_shown_once_some_is_wanted() {
        let mut state = State::new("loading", Duration::ZERO);
        let counters = Arc::new(WorkCounters::default());
        state.count(counters.clone(), Duration::from_secs(1));
        state.expect_rounds(3, true);
        assert_eq!(state.line(Duration::from_secs(3)), "loading, for 2 s");
        counters.want_questions(4);
        assert_eq!(state.line(Duration::from_secs(3)), "0/3 rounds, 0/4 questions");
        counters.count_answer(true);
        state.note_pace(Duration::from_secs(3));
        state.end_round(4);
        assert_eq!(state.line(Duration::from_secs(3)), "1/4 rounds, 1/4 questions, about 6 s left");
    }
}
